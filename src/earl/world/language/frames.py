"""Sentence frames around the core of a request: commands, questions, wishes, passives, and pleasantries.

{do} is a core that begins with a verb ("remove the cube"), {doing} the same with its gerund, {it} the
subject of an edit, {done} what is done to it ("removed"), {act} what it does ("disappear").
(a|b) are alternatives, [a] may be left out.
"""

from __future__ import annotations

COMMANDS = (
    "(could|can|would|will) you {do}",
    "i (want|need) you to {do}",
    "(i would|i'd) like you to {do}",
    "you (should|must|can|need to|have to) {do}",
    "(let us|let's) {do}",
    "(try to|go ahead and|make sure to|be sure to|feel free to|remember to) {do}",
    "i (would like|'d like|want|need|wish) to {do}",
    "we (should|need to|must|have to|want to) {do}",
    "(is it|would it be) possible to {do}",
    "do me a favor and {do}",
    "(it is|it's) time to {do}",
    "your (task|job) is to {do}",
    "the task is to {do}",
    "help me {do}",
    "(can|could|may|shall|should) we {do}",
    "would you be so kind as to {do}",
    "in (this|the) picture {do}",
    "edit the picture and {do}",
    "(my wish|my request|what i want) is to {do}",
    "(next|first|now|here) {do}",
    "do you think you could {do}",
    "are you able to {do}",
    "i am asking you to {do}",
    "why (do not|don't) you {do}",
)
GERUNDS = (
    "would you mind {doing}",
    "(how|what) about {doing}",
    "(i suggest|i propose|consider|try|start by) {doing}",
    "could you help me with {doing}",
    "i was thinking of {doing}",
)
PASSIVES = (
    "{it} (should|must|needs to|has to|ought to|is to) be {done}",
    "i (want|need|would like|'d like) {it} {done}",
    "i (want|need|would like|'d like) {it} to be {done}",
    "i (would like|'d like|want) to (have|see) {it} {done}",
    "(have|get) {it} {done}",
    "(can|could) {it} be {done}",
    "(can|could|would) you (have|get) {it} {done}",
    "let {it} be {done}",
    "i wish {it} (were|was) {done}",
    "what if {it} (were|was) {done}",
    "it would be (nice|great|good) if {it} (were|was) {done}",
    "(make sure|see to it) that {it} is {done}",
    "{it} is supposed to be {done}",
    "show me {it} {done}",
    "i would be happy if {it} (were|was) {done}",
    "make sure that {it} gets {done}",
)
ACTS = (
    "{it} (should|must|needs to|has to|ought to) {act}",
    "(let|have) {it} {act}",
    "i (want|need|would like|'d like) {it} to {act}",
    "(can|could) {it} {act}",
    "(can|could) you let {it} {act}",
    "get {it} to {act}",
    "i (would like|'d like|want) to see {it} {act}",
    "it would be (nice|great|good) if {it} could {act}",
    "{it} is supposed to {act}",
    "allow {it} to {act}",
    "what if {it} were to {act}",
    "{it} had better {act}",
)
GREETINGS = (
    "hi", "hello", "hey", "hey there", "hi there", "hello there", "good morning", "good evening", "ok", "okay",
    "alright", "so", "well", "um", "hmm", "right", "dear editor", "excuse me", "sorry", "great", "thanks", "yo",
    "one thing", "quick question", "a small change", "one more thing", "new task", "instruction", "edit", "task",
)  # fmt: skip
FAREWELLS = (
    "thanks", "thank you", "thank you very much", "thanks a lot", "thx", "cheers", "if you can", "if possible",
    "if you don't mind", "for me", "right away", "right now", "when you have time", "as soon as possible", "asap",
    "thank you so much", "thanks in advance", "will you", "would you", "okay", "ok", "that is all", "and that is it",
    "i beg you", "many thanks", "that would be great", "nothing else", "and nothing else", "keep the rest", "leave the rest as it is",
)  # fmt: skip
FILLERS = (
    "please",
    "just",
    "kindly",
    "simply",
    "maybe",
    "perhaps",
    "really",
    "quickly",
    "actually",
    "pls",
    "plz",
)
"""Words that may stand nearly anywhere and say nothing."""
JOINTS = ("and then", "and", "then", "and also", "and after that", "after that", "and next", "and finally")
"""Between two requests."""
