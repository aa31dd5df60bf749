"""What each subcommand does: read the flags, call the stages, print data to stdout and prose to stderr."""
