"""Refusals in a judge's answer: sentences in some thirty languages, and flags in its objects.

Prose that refuses makes the scores beside it no verdict, in whatever form they stand. Inside an object a text
may well say what could not be seen in an image, so there it has to be the judging itself that is declined.
A verdict that is taken for a refusal is only lost, so in doubt it is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from earl.endpoints.reading import Node

_CANNOT = (
    r"(?:can(?:no|['’])?t|can not|could(?:n['’]t| not)|(?:unable|not able|not comfortable"
    r"|not willing|not allowed)"
    r"(?: to)?|won['’]t|(?:will|would|must|should|may) not|(?:must|should)n['’]t|(?:do not|don['’]t)"
    r"(?: feel able to)?|declin(?:e|ing)|refus(?:e|ing)|not going to|(?:im|not )possible to|no way to)\b"
)
_JUDGING = r"(?:judg|rat|scor|assess|evaluat|grad)(?:e|ing)?\b"
_OBJECT = r"(?:this|that|it|the|these|those|them|any\w*|people|humans|faces|persons?|images?|such|your)\b"
_NEVER_JUDGED = (  # in prose and in the texts of an object; lower case
    r"(?:not|never|rather not)(?: to)? (?:judge|rate|score|assess|evaluate|grade) " + _OBJECT,
    r"(?:i|we) [^.!?\n]{0,20}(?:can(?:no|['’])?t|can not|won['’]t|will not) (?:do (?:this|that|so)"
    r"|comply|assist)\b",
    r"no judge?ment is possible\b",
    _CANNOT + r"[^.!?\n]{0,20}?\b(?:view|access|open|load)\b[^.!?\n]{0,20}\bimages?\b",
    r"no [^.!?\n]{0,20}\bimages? (?:was|were|is|are) (?:provided|attached|given|shown|included|visible)\b",
    r"only (?:one|1|a single) image (?:was|is|has been|were) (?:provided|attached|given|shown"
    r"|included|received)\b",
    r"i (?:only|just) (?:see|saw|have|got|received) (?:one|a single|1) image\b(?! of)",
    r"i (?:do not|don['’]t|did not|didn['’]t|cannot|can['’]t|could not"
    r"|couldn['’]t) (?:actually )?(?:see|have|get"
    r"|receive|look at) (?:(?:any|the|both|either|your|these|a|first|second|source|edited"
    r"|original) )*images?\b(?! of)",
    r"ability to (?:see|view|access|judge|rate|score)\b",
    r"images? (?:\w+ ){0,2}(?:failed to load|(?:did not|didn['’]t) load"
    r"|(?:could not|cannot|can['’]t) be (?:loaded|opened|accessed|displayed|viewed))\b",
    r"please (?:provide|upload|attach|send|resend|share)\b",
    r"(?:insufficient|not enough) (?:information|data|context)\b",
    r"request (?:was |is |has been )?(?:denied|declined|refused|rejected)\b",
    r"(?:placeholder|dummy|made[- ]up|random|arbitrary) (?:scores?|values?|numbers?|verdict)\b",
    r"(?:only|just) (?:an? )?(?:example|placeholder)s?\b",
    r"example only\b",
    r"confidence(?: level| score)?[\s:=*_\"']{1,8}(?:is )?(?:zero\b|0(?:\.0+)?(?![.,]?\d|[/–-]))",
)
_IN_PROSE = (  # as these
    _CANNOT
    + r"[^.!?\n]{0,60}?\b(?:"
    + _JUDGING
    + r"|(?:compare|assist|help|comply|answer|determine|provide)\b)",
    r"(?:i|we)(?:['’](?:m|re|ll|d|ve)| am| are| must| have to| will)?(?: \w+)? (?:declin(?:e|ing)"
    r"|refus(?:e|ing)"
    r"|abstain(?:ing)?|pass on)\b",
    r"(?:judging|rating|scoring|judge?ment|evaluation|assessment)\b[^.!?\n]{0,40}"
    r"\b(?:not possible|impossible|something (?:i|we) (?:do not|don['’]t|can(?:no|['’])t) do)\b",
    r"(?:violates?|against|breaks?) [^.!?\n]{0,30}\b(?:polic(?:y|ies)|guidelines)\b",
    r"placeholders?\b",
)
_AT_START = (
    r"\A\W*(?:n/a\b|not applicable\b|refus(?:ed|al|e)\W*$|declined\W*$|error\b(?=\W*$|:))"
    r"|(?:\A|[.!?;,\n]|\b(?:because|since|as)\b)\s*(?:the |an? |one |both "
    r"|your )?(?:\w+ )?images? (?:is|are|was|were) "
    r"(?:missing|not (?:provided|attached|given|shown|included|available))\b"
)
_SORRY = (
    r"\A\W*(?:(?:i['’]?m|i am|we are|we['’]re)?(?: \w+)? ?sorry\b|(?:i|we|my"
    r"|our)? ?(?:sincere(?:ly)? )?apolog"
    r"|lo siento|lamento|(?:je suis |nous sommes )?désolée?|(?:es )?tut mir leid|leider|mi dispiace"
    r"|(?:me )?desculpe"
    r"|sinto muito|het spijt|helaas|tyvärr|beklager|valitettavasti|bohužel|sajnálom|sajnos"
    r"|îmi pare rău|λυπάμαι"
    r"|извините|к сожалению|простите|przepraszam|niestety|вибачте|на жаль|(?:很|非常)?(?:抱歉|遗憾"
    r"|遺憾)|对不起|對不起"
    r"|申し訳|すみません|ごめん|残念|죄송|미안|아쉽|عذر|آسف|متأسف|سליחה|מצטער|क्षमा|माफ़|üzgünüm"
    r"|maalesef|xin lỗi"
    r"|rất tiếc|maaf|ขออภัย|ขอโทษ|запрос отклон)"
)
_PROSE = re.compile(rf"\b(?:{'|'.join((*_NEVER_JUDGED, *_IN_PROSE))})|{_AT_START}|{_SORRY}", re.M)
_INSIDE = re.compile(
    rf"\b(?:{'|'.join(_NEVER_JUDGED)})|{_AT_START}"
    rf"|\A\W*{_CANNOT}[^.!?\n]{{0,20}}?\b{_JUDGING}"
    rf"|\b(?:i|we)\b[^.!?\n]{{0,20}}\b{_CANNOT}[^.!?\n]{{0,40}}?\b(?:{_JUDGING}|(?:assist|help|comply)\b)",
    re.M,
)
# Other languages: a word of judging, or of looking at images, and one of not being able or willing to, in one
# sentence. The beginnings of words are enough, and need not be of one language.
_JUDGING_ELSEWHERE = re.compile(
    r"evaluar|evaluación|évaluer|évaluation|evaluez|evalua\b|avali|juzg|calific|valorar|valutar"
    r"|giudic|puntu|pontuar"
    r"|julg|juger|noter\b|comparar|comparer|confrontare|ayudar|ajudar|aider|aiutar|bewert|beurteil"
    r"|einschätz"
    r"|vergleich|helfen|beoordel|vergelijk|vurder|bedöm|arvioi|oceni|ocenić|porówn|posoudit|hodnot"
    r"|értékel|αξιολογ"
    r"|оцен|оцін|судить|сравн|помочь|評|评|打分|判断|判定|判斷|比较|比較|協助|协助|帮助|採点"
    r"|お手伝い|回答|평가|판단"
    r"|비교|채점|도와|تقييم|أقيم|مقارن|مساعد|להעריך|לדרג|मूल्यांकन|आकलन|तुलना|मदद|सहायता|değerlendir"
    r"|karşılaştır"
    r"|puanla|đánh giá|so sánh|chấm|menilai|mengevaluasi|membandingkan|ประเมิน|ให้คะแนน|เปรียบเทียบ"
    r"|ver (?:las?|as?) im[aá]ge|voir (?:les?|l['’]) ?images?|bilder? (?:nicht )?sehen|vedere le imm"
    r"|看到图|看不到图|查看图"
    r"|画像を(?:見|確認)|видеть изображ|이미지를 볼"
)
_UNABLE_ELSEWHERE = re.compile(
    r"no (?:me |nos |se )?(?:pued|podemos|es posible)|imposible|impossível|impossibile|impossible"
    r"|não (?:posso|podemos"
    r"|consigo|é possível)|non (?:posso|possiamo|è possibile|sono)|me niego|me nego|recuso|rifiuto|refuse"
    r"|n['’]?e? ?(?:peux|peut|pouvons|suis|sommes|est) pas|en mesure|nicht|unmöglich|lehne|weigere"
    r"|niet\b|kan (?:inte|ikke)"
    r"|en voi|nie (?:mog|można|jestem|będę)|odmawiam|nemohu|nemůžu|nelze|nem (?:tud|áll)|nu pot"
    r"|δεν μπορ|αδυνατ"
    r"|не (?:мог|мож|удал|буд|в состоянии)|невозможн|неможлив|отказ|无法|無法|不能|不便|不会|不會"
    r"|没法|沒法|不可|拒|不了|难以"
    r"|できな|できま|できか|かねま|不可能|控え|断り|しません|없|못|불가|거절|어렵|لا |تعذر|أرفض|אינ"
    r"|לא |नहीं|असमर्थ|e?mem\b|[ae]m[ıiae]yor"
    r"|eme[zm]|ama[zm]|không thể|tidak (?:dapat|bisa|mampu)|ไม่สามารถ|ไม่ได้|看不到"
)
_SENTENCE_ENDS = re.compile(r"[.!?;:。！？؟।\n]")
_VERB = r"(?:judg|rat|scor|assess|evaluat|grad|answer)"
_ABLE = rf"(?:be)?{_VERB}(?:e|ed|e?able)?(?:this|it|images?|edit)?"
_NOT_IF_TRUE = re.compile(  # names of flags, without marks between their words
    r"(?:is|was|has|i|judge)?(?:refus(?:e[ds]?|al|ing)|declin(?:e[ds]?|ing)|abstain(?:s|ed)?|skipped|error|"
    r"placeholder|example|sample|template|draft|dummy|mock|hypothetical)"
    rf"(?:answer|response|output|scores?|values?|to{_VERB}e?)?"
    rf"|(?:is)?un{_VERB}(?:ed|e?able)|(?:i|is|judge)?(?:can(?:no|')?t|couldnot|unableto|notableto"
    rf"|not){_ABLE}"
)
_NOT_IF_FALSE = re.compile(
    rf"(?:i|is|judge)?(?:can|could|ableto){_ABLE}|(?:is|was)?{_VERB}(?:ed|e?able)|(?:is)?final"
    r"|(?:is)?(?:scores?|answer|rating|judge?ment|verdict)(?:is|are)?(?:valid|real|final|reliable)"
    r"|(?:is)?(?:valid|real|final|reliable)(?:scores?|answer|rating|judge?ment|verdict)"
)
_SURE, _NOTHING = re.compile(r"confidence(?:level|score)?"), re.compile(r"0+(?:\.0*)?%?|zero|none")
_TRUE, _FALSE = frozenset(("true", "yes", "1")), frozenset(("false", "no", "0"))
_FAILED = frozenset(("error", "failed", "failure", "refused", "declined", "skipped", "aborted"))
_NO_TEXT = frozenset(("", "none", "null", "n/a", "na", *_FALSE))


def declines(text: str) -> bool:
    """Whether prose says that it will not judge, or that its scores are not meant."""
    text = text.lower()
    return bool(_PROSE.search(text)) or _declines_elsewhere(text)


def _declines_elsewhere(text: str) -> bool:
    """Whether a lower-case text declines in another language than English."""
    for match in _JUDGING_ELSEWHERE.finditer(text):
        before = _SENTENCE_ENDS.split(text[max(0, match.start() - 60) : match.start()])[-1]
        after = _SENTENCE_ENDS.split(text[match.start() : match.end() + 60])[0]
        if _UNABLE_ELSEWHERE.search(before + after):
            return True
    return False


def refusals(node: Node) -> Iterator[str]:
    """Why an object is no verdict: a text in it declines to judge, or a flag says that none was made."""
    if node.kind == "string":
        said = node.text.lower()
        if _INSIDE.search(said) or _declines_elsewhere(said):
            yield "the answer declines to judge"
    for key, item in zip(node.keys, node.items, strict=False):
        name, said = re.sub(r"[^a-z']", "", key.lower()), item.text.strip().lower()
        if item.kind in ("bare", "string") and (
            (said in _TRUE and _NOT_IF_TRUE.fullmatch(name))
            or (said in _FALSE and _NOT_IF_FALSE.fullmatch(name))
            or (re.match("refus|declin|abstain|error", name) and said not in _NO_TEXT)
            or (name in ("status", "state") and said in _FAILED)
            or (_SURE.fullmatch(name) and _NOTHING.fullmatch(said))
        ):
            yield f'the answer says "{key.strip()[:40]}": {item.text.strip()[:40]}, so it is no verdict'
    for item in node.items:
        yield from refusals(item)
