"""Where calls enter a server: request ids, admission, parsing, errors as statuses."""
