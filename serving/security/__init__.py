"""Who may call what: credentials, rights, TLS files, and the record of what was changed.

rights.py     which right each RPC needs: the one table of them
tls.py        certificates, of servers and of those who call them
keyring.py    who there is: keys, certificates and tokens
keys_file.py  the file that says who there is, and what each may do
tokens.py     callers that show a JWT
guard.py      decides whether a call is let in, before its message is read
audit.py      a line in the log for each change

`serving/boundary/proxy.py` asks the guard of each call, and nothing else does.
"""
