"""The log's format and arithmetic: Arrow in memory, no files, no clock."""
