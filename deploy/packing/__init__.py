"""Packages of an exported model for other servers: their files, made here and imported nowhere."""
