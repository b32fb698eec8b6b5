"""Authentication and authorization: who a connection is, and what it may do. No I/O and no event loop here.

users.py        the decision over a CONNECT: users, nkeys, tokens, certificate mapping, no_auth_user
operator.py     the decision in operator mode: user JWTs
claims.py       an account as its JWT makes it
jwt.py          JWTs, verified and read; jwt_check.py what is wrong with their claims
nkeys.py        signatures
templates.py    permissions of scoped signing keys; restrictions.py  networks and times
dirstore.py     account JWTs in a directory
permissions.py  configured permissions as the lists that the engine compiles
certificate.py  what authentication and monitoring read out of a peer's X.509 certificate
dn.py           distinguished names and how they match
"""
