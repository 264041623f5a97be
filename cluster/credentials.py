"""Credentials: what looks like one is not printed, recorded or sent along.

Promises: `redacted` leaves a text as it is but for passwords in addresses (`s3://key:secret@bucket`), signatures and
tokens in query strings (`?sig=`, `?X-Amz-Signature=`), `Authorization` values, private keys, key ids of Amazon's, what
follows a name that says secret (`AWS_SECRET_ACCESS_KEY=`, `password: `, `'client_secret': `, `x-amz-security-token: `),
and the values such names have in this process's environment, plain or percent-encoded. `refuse` takes no URI that
carries one: it would lie in fingerprints, manifests, run records, process lists and a dashboard that others see. Costs
microseconds a text. Does not know a secret that has neither a telling name nor a telling shape.

Where credentials belong: environment, profile or role of the machine that reads (AWS_PROFILE, an instance's role,
`secretKeyRef` on Kubernetes); pyarrow and fsspec look there by themselves.
Sources: RFC 3986 §3.2.1 (userinfo), the query parameters of AWS Signature Version 4, of Google's V4 signing and of
Azure's shared access signatures, RFC 6750 §2 (bearer tokens).
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "***"
SHORTEST = 8  # characters of an environment's value that is looked for: a shorter one is a word of many texts
SIGNED = (
    "sig|signature|x_amz_signature|x_amz_credential|x_amz_security_token|x_goog_signature|x_goog_credential|"
    "access_key|access_key_id|awsaccesskeyid|secret|secret_key|secret_access_key|session_token|account_key|"
    "client_secret|password|passwd|pwd|token|access_token|auth_token|refresh_token|id_token|api_key|apikey|sas|sas_token"
).replace("_", "[-_]?")
# Names of secrets as code, headers and files spell them. VAGUE: prose and recipes use these too, so only what looks
# like a secret counts: 16 letters and digits, both, and no stage's address. BARE: names that stand before a value with
# nothing between, as in a file of the AWS tools that is broken.
SPELT = (
    "(?:aws)?secret_?(?:access_?)?key|client_secret|app_secret|shared_secret|(?:aws)?session_token|security_token|"
    "access_token|auth_token|refresh_token|bearer_token|api_token|sas_token|hf_token|access_key|account_key|storage_key|"
    "private_key|api_key|encryption_customer_key|password|passwd|passphrase"
).replace("_", "[-_]?")
VAGUE = r"(?:id[-_])?token|secret|credentials?|pwd|sas|signature"
BARE = "secret_access_key|session_token|security_token".replace("_", "[-_]?")
SAYS = (
    "SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|API_KEY|APIKEY|ACCESS_KEY|ACCOUNT_KEY|STORAGE_KEY|PRIVATE_KEY|"
    "CONNECTION_STRING|PGPASSWORD|SAS"
)
NAMED = rf"(?:[A-Z0-9]+_)*(?:{SAYS})(?:_[A-Z0-9]+)*"
PLACES = ("_PATH", "_FILE", "_DIR", "_URL", "_URI", "_MODE", "_TYPE", "_NAME", "_ID", "_EXPIRATION", "_TTL")

# What stands before the @ of an address, when it has a colon that is not a port's: `key:secret@`, also with a slash in
# it, as Amazon's secrets have and as some write them in spite of RFC 3986.
USERINFO = re.compile(r"(?P<kept>[A-Za-z][A-Za-z0-9+.-]*://)[^\s/:@'\"<>]*:(?!\d+(?:/|$))[^\s@'\"<>]+(?=@)")
# On the web a name alone is one as well: a token of a code host, or a key, is given as the user.
USER = re.compile(r"(?P<kept>\bhttps?://)[^\s/?#:@'\"<>]+(?=@)", re.IGNORECASE)
QUERY = re.compile(rf"(?P<kept>[?&;](?:{SIGNED})=)[^\s&;#'\"<>)*]+", re.IGNORECASE)
SET = r"\\?['\"]?[ \t]*(?:[=:]>?|>)[ \t]*\\?['\"]?"  # between a name and its value, in code, JSON, YAML and headers
VALUE = r"(?:(?<=')[^'\n]+|(?<=\")[^\"\n]+|[^\s'\",;&<]+)"
LOOKS = (
    r"(?=[A-Za-z0-9+/=._~%-]*[0-9])(?=[A-Za-z0-9+/=._~%-]*[A-Za-z])(?!/|[a-z]+-[0-9a-f]{10}\b)[A-Za-z0-9+/=._~%-]{16,}"
)
SAID = re.compile(rf"(?P<kept>\b(?P<name>{NAMED}){SET})(?!\$){VALUE}")
WORDED = re.compile(
    rf"(?P<kept>(?<![A-Za-z0-9])(?:{SPELT}){SET})(?!\$|(?:none|null|true|false)\b){VALUE}"
    rf"|(?P<vague>(?<![A-Za-z0-9])(?:{VAGUE}){SET}|(?<![A-Za-z0-9])(?:aws[-_])?(?:{BARE})[ \t]+){LOOKS}",
    re.IGNORECASE,
)
KEY_ID = re.compile(r"(?<![A-Za-z0-9])(?P<kept>AKIA|ASIA)[A-Za-z0-9]{16}(?![A-Za-z0-9])")
BEARER = re.compile(r"(?P<kept>\b(?:Bearer|[Aa]uthorization['\"]?:\s*['\"]?\w+)\s+)[A-Za-z0-9+/=._~-]{8,}")
KEY = re.compile(r"(?P<kept>-----BEGIN [A-Z ]*PRIVATE KEY-----).+?(?=-----END|\Z)", re.DOTALL)
SHAPES = re.compile(r"(?P<kept>\b(?:hf_|gh[pousr]_|github_pat_|xox[abprs]-))[A-Za-z0-9_-]{16,}")


def secret(name: str) -> bool:
    """Whether a variable of this name holds a secret, and not the place of one.

    >>> [secret(n) for n in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "RAY_AUTH_TOKEN_PATH", "TUNDISH_TOKENS", "PATH")]
    [True, True, False, False, False]
    """
    name = name.upper()
    return re.fullmatch(NAMED, name) is not None and not name.endswith(PLACES)


def redacted(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text with `***` in the place of every credential; `environment` is this process's unless given.

    >>> redacted("cannot read s3://AKIA:wJalr/XUt@bucket/a.parquet?x=1, nor https://host/b?sv=2&sig=Zm9v", {})
    'cannot read s3://***@bucket/a.parquet?x=1, nor https://host/b?sv=2&sig=***'
    >>> redacted("http://heron.example:8080/@user and gs://anonymous@corpora are as they were", {})
    'http://heron.example:8080/@user and gs://anonymous@corpora are as they were'
    >>> redacted("git from https://a0b1c2@host/x, by me@host", {})
    'git from https://***@host/x, by me@host'
    >>> redacted("secret_key='wJalr/XUt', password: hunter2; the password is wrong, pad_token: 0", {})
    "secret_key='***', password: ***; the password is wrong, pad_token: 0"
    """
    for value in _values(os.environ if environment is None else environment):
        text = text.replace(value, HIDDEN)
    for shape in (USERINFO, USER, QUERY, BEARER, KEY, SHAPES, KEY_ID):
        text = shape.sub(rf"\g<kept>{HIDDEN}", text)
    text = WORDED.sub(lambda hit: (hit["kept"] or hit["vague"]) + HIDDEN, text)
    return SAID.sub(lambda hit: hit["kept"] + HIDDEN if secret(hit["name"]) else hit[0], text)


def _values(environment: Mapping[str, str]) -> list[str]:
    """What the environment's secrets look like in a text, the longest first: one may be the beginning of another."""
    plain = {value for name, value in environment.items() if secret(name) and len(value) >= SHORTEST}
    return sorted({spelt for value in plain for spelt in (value, quote(value, safe=""), quote_plus(value))}, key=_order)


def _order(value: str) -> tuple[int, str]:
    return -len(value), value


def carried(uri: str) -> bool:
    """Whether a URI carries a credential.

    >>> [carried(u) for u in ("s3://key:secret@bucket/a", "https://host/a?sig=Zm9v", "s3://bucket/a", "/a:b@c?sig=d")]
    [True, True, False, False]
    """
    return "://" in uri and redacted(uri, {}) != uri


def refuse(uri: str, where: str = "the URI") -> None:
    """ValueError when a URI carries a credential; the sentence does not repeat it."""
    if carried(uri):
        raise ValueError(
            f"{where} {redacted(uri)!r} carries a credential (where the *** are), which would be written into "
            "manifests and logs; leave it out and give it by the environment, such as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or by a profile or role"
        )


def refuse_within(value: Any, where: str) -> None:
    """The same for every text inside lists and mappings, such as the fields of a stage."""
    for text in _texts(value):
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
            refuse(text, f"{where}:")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
