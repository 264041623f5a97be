"""Codes of languages, made one: ISO 639-1 where a language has one, else ISO 639-3.

lid.176 says `de`, FineWeb-2 and GlotLID `deu_Latn`, NLLB and OpenLID `zho_Hans`. The table of pairs is ISO 639's own
(as Debian's iso-codes 4.15 gives it). A label with a script may name one language of several that ISO 639-3 gathers as
a macrolanguage: the one that the two-letter code means in print is taken for it (`arb`, standard Arabic, for `ar`; its
dialects, such as `arz`, keep codes of their own).

Promises: a table look-up, the same everywhere. Refuses nothing: what is no code is left as it is.
"""

import re
from functools import lru_cache

_PAIRS = """
aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul bi:bis bm:bam
bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre cs:ces cu:chu cv:chv cy:cym da:dan de:deu dv:div dz:dzo
ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij fo:fao fr:fra fy:fry ga:gle gd:gla gl:glg
gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat hu:hun hy:hye hz:her ia:ina id:ind ie:ile ig:ibo ii:iii
ik:ipk io:ido is:isl it:ita iu:iku ja:jpn jv:jav ka:kat kg:kon ki:kik kj:kua kk:kaz kl:kal km:khm kn:kan ko:kor kr:kau
ks:kas ku:kur kv:kom kw:cor ky:kir la:lat lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri
mk:mkd ml:mal mn:mon mr:mar ms:msa mt:mlt my:mya na:nau nb:nob nd:nde ne:nep ng:ndo nl:nld nn:nno no:nor nr:nbl nv:nav
ny:nya oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli pl:pol ps:pus pt:por qu:que rm:roh rn:run ro:ron ru:rus rw:kin
sa:san sc:srd sd:snd se:sme sg:sag sh:hbs si:sin sk:slk sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw st:sot su:sun
sv:swe sw:swa ta:tam te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi ty:tah ug:uig
uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol wa:wln wo:wol xh:xho yi:yid yo:yor za:zha zh:zho zu:zul
"""
# Of a macrolanguage, the language that its two-letter code means (members: ISO 639-3, iso-639-3-macrolanguages.tab).
_MEMBERS = """
ar:arb ay:ayr az:azj et:ekk fa:pes ff:fuv gn:gug kr:knc ku:kmr kv:kpv lv:lvs mg:plt mn:khk ms:zsm ne:npi om:gaz or:ory
ps:pbt qu:quy sq:als sw:swh uz:uzn yi:ydd zh:cmn
"""
SHORT = {three: two for two, three in (pair.split(":") for pair in _PAIRS.split())}
MEMBERS = {three: two for two, three in (pair.split(":") for pair in _MEMBERS.split())}
WIKIPEDIAS = ("als",)  # Alemannic in lid.176, which says `als` as Wikipedia does; Tosk Albanian in ISO 639-3
_LABEL = re.compile(r"([a-z]{2,3})(?:_([A-Z][a-z]{3}))?")


def parts(label: str) -> tuple[str, str]:
    """The short code of a label, and the script it names, empty if none.

    >>> [parts(label) for label in ("deu_Latn", "deu", "arb_Arab", "als", "als_Latn", "ceb_Latn", "zh-cn")]
    [('de', 'Latn'), ('de', ''), ('ar', 'Arab'), ('als', ''), ('sq', 'Latn'), ('ceb', 'Latn'), ('zh-cn', '')]
    """
    found = _LABEL.fullmatch(label)
    if found is None:
        return label, ""
    code, script = found[1], found[2] or ""
    if code in SHORT:
        return SHORT[code], script
    return (code if code in WIKIPEDIAS and not script else MEMBERS.get(code, code)), script


@lru_cache(maxsize=4096)
def short(label: str) -> str:
    """The short code of a label."""
    return parts(label)[0]


def is_code(label: str) -> bool:
    """Whether this could name a language: two or three letters, and a script or none."""
    return _LABEL.fullmatch(label) is not None


def same(code: str) -> str:
    """A short code, with Norwegian and its Bokmål as one: lid.176 says `no` for what GlotLID calls `nob_Latn`."""
    return "no" if code == "nb" else code


def means(asked: str, said: str) -> bool:
    """Whether a language that is asked for is the one that is said; scripts count where both name one.

    >>> means("deu_Latn", "de"), means("srp_Latn", "srp_Cyrl"), means("sr", "srp_Cyrl"), means("nl", "de")
    (True, False, True, False)
    """
    (code, script), (other, its) = parts(asked), parts(said)
    return same(code) == same(other) and (not script or not its or script == its)
