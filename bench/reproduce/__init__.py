"""Tables of indexings, tasks and prompts, made anew by one command for each data set."""
