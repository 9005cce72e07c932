"""Makes the keys and tokens beside it, by PyJWT and cryptography: pip install pyjwt cryptography.

The private keys are made anew and thrown away; what is signed holds until 2100.
"""

import json
import pathlib

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

HERE = pathlib.Path(__file__).parent
EXP = 4102444800
CLAIMS = {"sub": "machine", "exp": EXP, "subscribe": ["orders.*"], "publish": ["orders.>"]}

rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
other_rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ec_key = ec.generate_private_key(ec.SECP256R1())
ec_384 = ec.generate_private_key(ec.SECP384R1())
ed_key = ed25519.Ed25519PrivateKey.generate()


def public(kid, algorithm, key, **further):
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **further}


keys = [
    public("rsa", RSAAlgorithm, rsa_key, use="sig", alg="RS256"),
    public("ec", ECAlgorithm, ec_key),
    public("ed", OKPAlgorithm, ed_key, use="sig"),
    # What sets of other people hold beside that.
    public("enc", RSAAlgorithm, rsa_key, use="enc"),
    public("p384", ECAlgorithm, ec_384),
    {"kty": "oct", "k": "c2VjcmV0", "kid": "oct", "alg": "HS256"},
]
for key in keys:
    key.pop("key_ops", None)

tokens = {}


def sign(name, key, alg, kid, claims=CLAIMS, **headers):
    kid = {"kid": kid} if kid is not None else {}
    tokens[name] = jwt.encode(claims, key, alg, headers={**kid, **headers})


sign("RS256", rsa_key, "RS256", "rsa")
sign("ES256", ec_key, "ES256", "ec")
sign("EdDSA", ed_key, "EdDSA", "ed")
sign("RS256 of another key", other_rsa, "RS256", "rsa")
sign("RS256 without kid", rsa_key, "RS256", None)
sign("RS256 with an unknown kid", rsa_key, "RS256", "nobody")
sign("RS256 with a path as kid", rsa_key, "RS256", "../../../../dev/null")
sign("RS256 with the kid of another family", rsa_key, "RS256", "ec")
sign("RS256 with the kid of a key for encryption", rsa_key, "RS256", "enc")
sign("RS512", rsa_key, "RS512", "rsa")
sign("PS256", rsa_key, "PS256", "rsa")
sign("ES384", ec_384, "ES384", "p384")
sign("HS256 by the key with kid oct", b"secret", "HS256", "oct")
own = {**RSAAlgorithm.to_jwk(other_rsa.public_key(), as_dict=True), "kid": "rsa"}
sign("RS256 that brings its key", other_rsa, "RS256", "rsa", jwk=own)
sign("RS256 that says where its key is", other_rsa, "RS256", "rsa", jku="http://127.0.0.1:1/jwks")
sign("RS256 with crit", rsa_key, "RS256", "rsa", crit=["exp"])
sign("RS256 without exp", rsa_key, "RS256", "rsa", {**{k: v for k, v in CLAIMS.items() if k != "exp"}})

# The signature of the public key's text as an HMAC secret: what a careless library accepts.
modulus = keys[0]["n"].encode()
sign("HS256 by the public key", modulus, "HS256", "rsa")

(HERE / "jwks.json").write_text(json.dumps({"keys": keys}, indent=1) + "\n")
(HERE / "tokens.json").write_text(json.dumps(tokens, indent=1) + "\n")
