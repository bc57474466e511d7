"""What it costs a gateway to be seen: metrics and traces against neither."""
