"""SageMaker: the container that trains, serves and monitors, and its contracts."""
