"""Authentication and authorization: who a connection is, and what it may do. No I/O and no event loop here.

users.py        the decision over a CONNECT: users, tokens, certificate mapping, no_auth_user
permissions.py  configured permissions as the lists that the engine compiles
certificate.py  what authentication and monitoring read out of a peer's X.509 certificate
dn.py           distinguished names and how they match
"""
