"""Protocols of other servers that this one speaks: V2 of Triton and KServe, SageMaker's models."""
