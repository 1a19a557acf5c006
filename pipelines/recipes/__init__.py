"""Recipes: a network and its training, chosen by a folder of images and the machine."""
