"""Data capture: requests and answers of a server as SageMaker's JSON lines, hour by hour."""
