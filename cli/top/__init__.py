"""`tandem top`: what the processes do, live in the terminal.

view      what is shown
scrapes   what the processes say, read twice
"""
