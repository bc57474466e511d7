"""`tandem enrich`: text for thin items, from a language model.

options   who is asked, which items, and at what price
command   the command
"""
