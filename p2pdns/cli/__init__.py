"""The command line: one file per verb family; `ui` is the only file that prints."""
