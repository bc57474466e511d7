"""`tandem top`: what the processes do, live in the terminal.

What the processes say is read by `serving.telemetry.scrapes`.
"""
