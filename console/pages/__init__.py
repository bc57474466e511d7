"""What people see: pages made here, without a build step, that need no script of theirs to work.

session      who is signed in: a key, sealed in a cookie
site         what all pages have: calls with the key of whoever looks, templates, failures
questions    what the forms ask
recommend    a user's history and recommendations, and why
beam         the trie that the generator walked
similar      items like others, or like a text
catalog      items, which may be added and removed
bundles      versions, what they reached, and which one serves
load         what the processes do now
interface    what programs may ask
signing      signing in and out
trie, drawing, rendering    what the beam is shown by, and how values are written
"""
