"""Formats of labelling tools: YOLO's text files, LabelMe's JSON and Label Studio's."""
