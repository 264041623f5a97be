"""Which filesystem a URI means, and with whose credentials it is asked.

    s3:// s3a://                     pyarrow; credentials and endpoint as the AWS tools have them
    gs:// gcs://                     pyarrow; GOOGLE_APPLICATION_CREDENTIALS or those of the machine
    abfs:// abfss:// az://           pyarrow; AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN,
                                     or those of the machine
    hdfs:// viewfs://                pyarrow, with a Hadoop client on this machine
    others                           fsspec, with the package it names

`TUNDISH_STORAGE` says more of some places, a word for each: `s3://corpora?profile=writer
s3://public?anonymous=true&region=eu-central-1 s3://scratch?endpoint=http://127.0.0.1:9000`. The longest that a URI
begins with counts. It holds names, never secrets.

Promises: one client for each bucket, however many files; nothing is asked of the network but the region of a bucket of
Amazon's where none is said. A key is taken as it is spelt, without percent signs' meaning. Refuses, in one sentence,
a scheme whose library is missing, options that a scheme has not, and a profile without keys.
"""

import configparser
import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

ONE = 8 << 20  # bytes that go in one request; pyarrow's parts have 10 MiB
ALIKE = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "az": "abfs", "abfss": "abfs"}  # other names of what pyarrow reads
KNOWN = {"s3": {"profile", "endpoint", "region", "anonymous"}, "gs": {"endpoint", "anonymous"}}
KNOWN["abfs"] = {"endpoint", "account", "anonymous"}
OPTIONS = re.compile(r"\?[a-z_]+=")  # of one file's URI, as pyarrow has them
FLAT = ("s3", "gcs", "abfs")  # stores without folders: one made for each file would be a handful of requests to one key
FILES = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}  # the last counts
IGNORE = "ignore_configured_endpoint_urls"
SERVICE = re.compile(r"^\s*endpoint_url\s*=\s*(\S+)", re.MULTILINE)  # inside `s3 =` of a [services NAME]
HADOOP = "install Java and a Hadoop client, and set JAVA_HOME, HADOOP_HOME and CLASSPATH (`hadoop classpath --glob`)"


@dataclass(frozen=True)
class Access:
    """What `TUNDISH_STORAGE` says of a place."""

    profile: str = ""  # of the files of the AWS tools
    endpoint: str = ""  # http://127.0.0.1:9000
    region: str = ""
    account: str = ""  # of Azure
    anonymous: bool = False


def access_of(uri: str, said: str) -> Access:
    """What is said of the place a URI lies in; of several the longest counts.

    >>> access_of("s3://corpora/a", "s3://corpora?profile=writer s3://corpora-of-others?anonymous=true").profile
    'writer'
    """
    found = [_word(word) for word in said.split()]
    fitting = [(place, access) for place, access in found if uri == place or uri.startswith(f"{place}/")]
    return max(fitting, key=lambda each: len(each[0]), default=("", Access()))[1]


def _word(word: str) -> tuple[str, Access]:
    place, _, options = word.partition("?")
    scheme, told = place.partition("://")[0], dict(parse_qsl(options, keep_blank_values=True))
    known = KNOWN.get(ALIKE.get(scheme, scheme), set())
    if odd := sorted(set(told) - known):
        raise ValueError(
            f"TUNDISH_STORAGE says {odd[0]!r} of {place!r}; "
            + (f"it may say {', '.join(sorted(known))}" if known else "say something of s3://, gs:// or abfs:// places")
        )
    if (secret := told.get("anonymous", "true")) not in ("true", "false"):
        raise ValueError(f"TUNDISH_STORAGE says anonymous={secret} of {place!r}; say anonymous=true or leave it out")
    texts = {f.name: told[f.name] for f in fields(Access) if f.name in told and f.name != "anonymous"}
    return place.rstrip("/"), Access(**texts, anonymous=told.get("anonymous") == "true")


def parted(uri: str) -> tuple[str, str]:
    """What has a client of its own, and the path inside it: of an object store the bucket. (uri, "") elsewhere.

    >>> parted("s3a://corpora/2026/a b.parquet")
    ('s3://corpora', '2026/a b.parquet')
    """
    scheme, _, rest = uri.partition("://")
    kind = ALIKE.get(scheme, scheme)
    if kind not in KNOWN or OPTIONS.search(rest):
        return uri, ""
    place, _, path = rest.partition("/")
    return f"{scheme if kind == 'abfs' else kind}://{place}", path


def opened(base: str, access: Access | None = None, parts: bool = False) -> tuple[pafs.FileSystem, str]:
    """The filesystem of what `parted` gave, and the path inside it. `parts`: one to write what is larger than `ONE`,
    part by part."""
    scheme, access = base.partition("://")[0], access or Access()
    kind = ALIKE.get(scheme, scheme)
    if kind == "abfs" and not OPTIONS.search(base):
        return _azure(base, access)
    if kind == "s3" and not OPTIONS.search(base):
        return _s3(base, access, parts)
    if kind == "gs" and access != Access():
        return _google(base, access)
    try:
        return pafs.FileSystem.from_uri(base if parts else _at_once(base))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        return _fsspec(base)
    except OSError as error:
        if kind not in ("hdfs", "viewfs"):
            raise
        raise ValueError(f"cannot read the URI {base!r} (no Hadoop client is installed here); {HADOOP}") from error


def _at_once(base: str) -> str:
    """Let S3 take a small file in one request, where it would be three: of a run's files most are commits. A large one
    begun so, whose parts are then refused, is put by pyarrow's `close` with the part that it holds (pyarrow 26)."""
    if not base.startswith("s3://") or "allow_delayed_open" in base:
        return base
    return f"{base}{'&' if '?' in base else '?'}allow_delayed_open=true"


def _fsspec(base: str) -> tuple[pafs.FileSystem, str]:
    try:
        import fsspec

        inner, path = fsspec.core.url_to_fs(base)
        return pafs.PyFileSystem(pafs.FSSpecHandler(inner)), path
    except (ValueError, ImportError, OSError) as error:
        raise ValueError(
            f"cannot read the URI {base!r} ({error}); use a path or a URI such as s3://bucket/folder"
        ) from error


def _where(endpoint: str) -> dict[str, str]:
    """The address of a store, as pyarrow's filesystems are told."""
    if not endpoint:
        return {}
    found = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    if found.scheme not in ("http", "https") or not found.netloc or found.path.strip("/"):
        raise ValueError(f"{endpoint!r} is no address of a store; write it as https://HOST or http://HOST:PORT")
    return {"scheme": found.scheme, "endpoint_override": found.netloc}


def _s3(base: str, access: Access, parts: bool) -> tuple[pafs.FileSystem, str]:
    bucket = base.removeprefix("s3://").rpartition("@")[2]
    if access.profile and access.anonymous:
        raise ValueError(f"TUNDISH_STORAGE says both profile and anonymous of {base!r}; say one of them")
    held = profile(access.profile) if access.profile else {}
    at = _where(access.endpoint or _endpoint(held or _profile(os.environ.get("AWS_PROFILE") or "default")))
    region = access.region or held.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    made = pafs.S3FileSystem(
        access_key=held.get("aws_access_key_id"),
        secret_key=held.get("aws_secret_access_key"),
        session_token=held.get("aws_session_token"),
        anonymous=access.anonymous or base.startswith("s3://anonymous@"),
        region=region or (None if at else pafs.resolve_s3_region(bucket)),
        allow_delayed_open=not parts,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=3),  # of a URI's client: 200 ms apart, all alike
        **at,
    )
    return made, bucket


def _endpoint(held: Mapping[str, str]) -> str:
    """The address that the AWS tools would ask S3 at, "" for Amazon's: the variable for S3, the one for all services,
    the profile's `[services]` for S3, the profile's own. Source: AWS SDKs and Tools Reference Guide, "Service-specific
    endpoints"."""
    if "true" in (os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower(), held.get(IGNORE, "").lower()):
        return ""
    of_s3 = SERVICE.search(section("AWS_CONFIG_FILE", f"services {held.get('services', '')}").get("s3", ""))
    said = [os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL"), of_s3 and of_s3[1]]
    return next((each for each in said if each), held.get("endpoint_url", ""))


def profile(name: str) -> dict[str, str]:
    """What the files of the AWS tools say of a profile: its keys, maybe its region and endpoint. ValueError where it
    has no keys."""
    found = _profile(name)
    if not found.get("aws_access_key_id") or not found.get("aws_secret_access_key"):
        raise ValueError(
            f"the profile {name!r} has no keys in the files of the AWS tools; add them, or, for a role or a single "
            "sign-on, set AWS_PROFILE and leave the profile out of TUNDISH_STORAGE"
        )
    return found


def _profile(name: str) -> dict[str, str]:
    sections = (f"profile {name}", name)
    return {key: value for file in FILES for each in sections for key, value in section(file, each).items()}


def section(variable: str, name: str) -> dict[str, str]:
    """A section of a file of the AWS tools, which a variable names or which lies in the home; {} where there is none.
    ValueError where the file cannot be understood: it tells the line's number alone, for the line may be a secret."""
    path, said = os.environ.get(variable) or os.path.expanduser(FILES[variable]), configparser.RawConfigParser()
    try:
        said.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        line = getattr(error, "lineno", None) or next((number for number, _ in getattr(error, "errors", ())), None)
        raise ValueError(
            f"{path} cannot be understood{f' at line {line}' if line else ''} (not shown: it may hold a secret); "
            "write each value as NAME = VALUE below a [SECTION], once"
        ) from None
    return dict(said.items(name)) if said.has_section(name) else {}


def _google(base: str, access: Access) -> tuple[pafs.FileSystem, str]:
    bucket = base.removeprefix("gs://").rpartition("@")[2]
    where = {name: quote(value, safe="") for name, value in _where(access.endpoint).items()}
    options = "&".join(f"{name}={value}" for name, value in where.items())
    return pafs.FileSystem.from_uri(f"gs://{'anonymous@' if access.anonymous else ''}{bucket}?{options}".rstrip("?"))


def _azure(base: str, access: Access) -> tuple[pafs.FileSystem, str]:
    """abfss://CONTAINER@ACCOUNT.dfs.core.windows.net, or abfs://CONTAINER and az://CONTAINER of the account said."""
    container, _, host = base.partition("://")[2].partition("@")
    account = host.partition(".")[0] or access.account or os.environ.get("AZURE_STORAGE_ACCOUNT", "")
    if not account:
        raise ValueError(
            f"cannot read the URI {base!r} (of which account, it does not say); set AZURE_STORAGE_ACCOUNT, or write "
            f"abfss://{container}@ACCOUNT.dfs.core.windows.net"
        )
    at, key = _where(access.endpoint), os.environ.get("AZURE_STORAGE_KEY")
    token = os.environ.get("AZURE_STORAGE_SAS_TOKEN") if not key else None
    if at.get("scheme") == "http" and not (key or token or access.anonymous):  # its client would end this process
        raise ValueError(f"{access.endpoint} is asked without TLS and needs a key; set AZURE_STORAGE_KEY, or use https")
    told = {f"{kind}_storage_{what}": value for kind in ("blob", "dfs") for what, value in _azure_where(at).items()}
    if access.anonymous:
        authorities = {name: value for name, value in told.items() if name.endswith("authority")}
        options = {**authorities, "credential_kind": "anonymous", "enable_tls": str(at.get("scheme") != "http").lower()}
        uri = f"abfs://{container}@{account}.dfs.core.windows.net?{urlencode(options)}"
        return pafs.FileSystem.from_uri(uri)
    return pafs.AzureFileSystem(account_name=account, account_key=key, sas_token=token, **told), container


def _azure_where(at: dict[str, str]) -> dict[str, str]:
    return {"scheme": at["scheme"], "authority": at["endpoint_override"]} if at else {}


def uri_of(uri: str, path: str) -> str:
    """The URI of a path of the store that another URI lies in, asked as that one.

    >>> uri_of("s3://anonymous@corpora/*.gz", "corpora/a.gz"), uri_of("hf://datasets/x", "datasets/x/a")
    ('s3://anonymous@corpora/a.gz', 'hf://datasets/x/a')
    >>> uri_of("abfss://corpora@lake.dfs.core.windows.net/2026", "corpora/2026/a")
    'abfss://corpora@lake.dfs.core.windows.net/2026/a'
    """
    base, _ = parted(uri)
    scheme, _, place = base.partition("://")
    bucket = place.partition("@")[0] if scheme in ("abfs", "abfss") else place.rpartition("@")[2]
    if ALIKE.get(scheme, scheme) in KNOWN and path.startswith(f"{bucket}/"):
        return f"{base}/{path.removeprefix(f'{bucket}/')}"
    return f"{scheme}://{path.lstrip('/')}"


def path_in(prefix: str, path: str) -> str:
    """A path below the one that a client was opened at."""
    return posixpath.join(prefix, path) if path else prefix
