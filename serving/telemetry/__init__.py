"""Seeing what a process does.

calls        what is noted of each call that is served: the one place that the boundary tells
metrics      counters and histograms of a process, for Prometheus
process      all of one server, from its start to its end
exposition   the port that they are read from
tracing      where a call stands in its trace, and its spans, for OpenTelemetry
export       their way to a collector
dump         what it is at, for whoever asks by a signal
labels       values of labels, from closed sets
reasons      the set of those of errors
logs         lines, with the ids of request and trace
request_id   which crosses all three processes
"""
