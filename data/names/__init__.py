"""Names of files and classes: listed, looked up, paired and brought into one form."""
