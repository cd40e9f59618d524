"""Top-level domains that end the names people type: a name that ends in one wants a final dot.

Guarantees: the country codes, and the generic domains with most names below them, in lower case.
Does not know every top-level domain: a missing one costs a warning, no more.
"""

from __future__ import annotations

GENERIC = frozenset(b"com net org edu gov mil int info biz name arpa".split())
"""Those that hardly anybody names a host after."""

_OTHERS = b"""
academy agency app art bank berlin blog care center city cloud club company dev digital email events family foundation
fund games global group guru hamburg health help home homes host hosting house link live london mobi money museum
network news one online page paris photo photos plus press pro radio red rocks run school science services shop site
social software solutions space store studio systems tech tel today tools top tv vip website wiki work works world xyz
ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf cg
ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd ge gf gg gh
gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr
kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf
ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm
sn so sr ss st sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws
ye yt za zm zw
"""

TOP_LEVEL_DOMAINS = GENERIC | frozenset(_OTHERS.split())
