"""Files of SageMaker Model Monitor: captures, ground truth, statistics, constraints, violations."""
