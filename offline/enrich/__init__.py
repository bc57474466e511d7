"""Text for thin items: what a language model says about each.

answer     what an answer holds, its JSON schema, and the text that it becomes
prompts    what is asked about an item
endpoint   the server that is asked: any that speaks OpenAI's protocol
cache      every answer that was paid for
run        many items at a time, within limits
estimate   what a run will cost
items      which items are asked about, and the table that comes out
local      a server of one's own with a small model, without a key
"""
