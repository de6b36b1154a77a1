"""The rows that are measured in this process, one file a stage."""
