"""Sentences that ask for nothing of this world; the right answer leaves the image as it is.

The training part and the held-out part share no sentence, no thing and no foreign sentence.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product

import numpy as np

_THINGS = (
    "dog",
    "cat",
    "tree",
    "car",
    "house",
    "bird",
    "person",
    "man",
    "woman",
    "child",
    "boat",
    "horse",
    "flower",
    "cloud",
    "mountain",
    "river",
    "bicycle",
    "airplane",
    "train",
    "table",
    "chair",
    "lamp",
    "book",
    "phone",
    "cow",
    "fish",
    "rabbit",
    "robot",
    "guitar",
    "apple",
    "banana",
    "pizza",
    "hat",
    "umbrella",
    "bridge",
    "tower",
    "rainbow",
    "rocket",
    "ship",
    "window",
    "door",
    "fence",
    "bottle",
    "cup",
    "clock",
    "sheep",
    "butterfly",
    "elephant",
    "lion",
    "monkey",
    "bear",
    "wolf",
    "ghost",
    "wizard",
    "knight",
    "king",
    "queen",
    "baby",
    "bus",
    "truck",
    "tractor",
    "piano",
    "camera",
    "cake",
    "cookie",
    "sandwich",
    "shoe",
    "sword",
    "star",
    "moon",
    "volcano",
)
_HELD_THINGS = (
    "dragon",
    "unicorn",
    "castle",
    "penguin",
    "helicopter",
    "dinosaur",
    "mermaid",
    "violin",
    "giraffe",
    "lighthouse",
    "pirate",
    "spaceship",
    "crocodile",
    "hamburger",
    "snowman",
    "kangaroo",
    "waterfall",
    "motorcycle",
    "witch",
    "owl",
)
_THING_SENTENCES = (
    "add a {t}",
    "add a {t} to the picture",
    "put a {t} in the picture",
    "draw a {t}",
    "remove the {t}",
    "make the {t} bigger",
    "make the {t} smaller",
    "paint the {t} red",
    "paint the {t} blue",
    "add a red {t}",
    "i want a {t}",
    "there should be a {t}",
    "delete the {t} on the left",
    "turn the {t} into a dog",
    "open the {t}",
    "please add a big {t}",
    "could you add a {t}?",
    "show me a {t}",
    "where is the {t}?",
    "get rid of the {t}",
    "let a {t} appear",
    "the {t} should be gone",
    "a {t} please",
    "make the {t} green",
    "add two {t}s",
    "add a small yellow {t} in the back",
    "knock over the {t}",
    "put the {t} on the right",
)
_HELD_THING_SENTENCES = (
    "a {t} would be nice here",
    "let a {t} fly over the scene",
    "i would like to see a {t}",
    "add a {t} behind the {t}",
    "the {t} should be purple",
    "can you draw me a {t}?",
    "take away the {t}",
    "please place a huge {t} in the middle",
)
_TALK = (
    "hello",
    "how are you?",
    "how are you today?",
    "what time is it?",
    "tell me a joke",
    "who are you?",
    "what is your name?",
    "i love you",
    "good morning",
    "thank you",
    "thanks a lot",
    "what is the weather like?",
    "what do you see in the picture?",
    "how many objects are there?",
    "what color is it?",
    "describe the image",
    "nice picture",
    "i like this picture",
    "this looks good",
    "what a beautiful day",
    "where are you from?",
    "can you help me?",
    "write a poem",
    "what is two plus two?",
    "i am hungry",
    "let us talk",
    "ok",
    "yes",
    "no",
    "hmm",
    "never mind",
    "do nothing",
    "nothing",
    "leave it",
    "do not change anything",
    "everything is fine",
    "keep the picture as it is",
    "leave the picture as it is",
    "change nothing",
    "it is perfect already",
    "who painted this?",
    "is this a photo?",
    "when was this made?",
    "do you speak english?",
    "the end",
    "test",
    "rotate the picture",
    "zoom in",
    "zoom out",
    "crop the picture",
    "blur the picture",
    "flip the image",
    "mirror the picture",
    "make it rain",
    "add some text",
    "write hello on the picture",
    "increase the contrast",
    "sharpen the image",
    "make everything transparent",
    "add a frame",
    "add fog",
    "make it glow",
    "add music",
    "save the file",
    "print this",
    "undo",
    "start again",
    "play a song",
    "send it to my mother",
)
_HELD_TALK = (
    "how is it going?",
    "what is the capital of france?",
    "tell me a story",
    "see you tomorrow",
    "my name is anna",
    "what are you doing?",
    "i am tired",
    "how old are you?",
    "count the objects",
    "who made this picture?",
    "lovely weather today",
    "is there anything in the picture?",
    "it looks fine to me",
    "no changes needed",
    "leave everything untouched",
    "add a caption",
    "increase the resolution",
    "tilt the camera",
    "add a watermark",
    "translate this into german",
    "book a table for two",
    "remind me to call bob",
)
_FOREIGN = (
    "entferne den roten würfel",
    "mach den ball blau",
    "lösche die kugel",
    "füge einen grünen zylinder hinzu",
    "bitte mach es nacht",
    "das bild soll schöner werden",
    "stell den kegel nach links",
    "öffne die truhe",
    "mach den würfel kleiner",
    "wie geht es dir?",
    "guten morgen",
    "tausche den würfel mit der kugel",
    "danke schön",
    "supprime le cube rouge",
    "peins la sphère en bleu",
    "ajoute un cylindre vert",
    "rends le cône plus petit",
    "bonjour, comment ça va ?",
    "enlève la boîte",
    "mets le fond en désert",
    "ouvre le coffre",
    "merci beaucoup",
    "elimina el cubo rojo",
    "pinta la esfera de azul",
    "añade un cilindro verde",
    "haz el cono más pequeño",
    "hola, ¿qué tal?",
    "quita la caja",
    "cambia el fondo",
    "abre el cofre",
    "muchas gracias",
    "buenos días",
    "rimuovi il cubo rosso",
    "colora la sfera di blu",
    "aggiungi un cilindro verde",
    "apri il baule",
    "ciao, come stai?",
    "verwijder de rode kubus",
    "maak de bol blauw",
    "voeg een groene cilinder toe",
    "hoe gaat het?",
    "dank je wel",
)
_HELD_FOREIGN = (
    "bitte entferne die blaue kugel",
    "färbe den kegel gelb",
    "stelle einen roten würfel daneben",
    "mache alles größer",
    "kannst du die kiste öffnen?",
    "ich hätte gern einen roten ball",
    "die kugel soll verschwinden",
    "heute ist ein schöner tag",
    "remova o cubo vermelho",
    "pinte a esfera de azul",
    "bom dia, tudo bem?",
    "ta bort den röda kuben",
    "gör bollen blå",
    "usuń czerwony sześcian",
    "odstraň červenou kostku",
    "kırmızı küpü kaldır",
    "peux-tu effacer la boule ?",
    "borra la pelota verde",
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def train_sentences() -> tuple[str, ...]:
    """The sentences of the training part."""
    made = tuple(s.format(t=t) for s, t in product(_THING_SENTENCES, _THINGS))
    return (*_TALK, *_FOREIGN, *made)


def heldout_sentences() -> tuple[str, ...]:
    """The sentences of the held-out part."""
    templates = (*_HELD_THING_SENTENCES, *_THING_SENTENCES)
    made = tuple(s.format(t=t) for s, t in product(templates, _HELD_THINGS))
    return (*_HELD_TALK, *_HELD_FOREIGN, *made)


def write_other(rng: np.random.Generator, heldout: bool = False) -> str:
    """One such sentence: of a thing unknown to the world, of talk, in another language, or of no language."""
    kind = rng.random()
    if kind < 0.35:
        talk = _HELD_TALK if heldout else _TALK
        return talk[int(rng.integers(len(talk)))]
    if kind < 0.55:
        foreign = _HELD_FOREIGN if heldout else _FOREIGN
        return foreign[int(rng.integers(len(foreign)))]
    if kind < 0.65 and not heldout:
        return _gibberish(rng)
    things = _HELD_THINGS if heldout else _THINGS
    templates = (*_HELD_THING_SENTENCES, *_THING_SENTENCES) if heldout else _THING_SENTENCES
    return templates[int(rng.integers(len(templates)))].format(t=things[int(rng.integers(len(things)))])


def _gibberish(rng: np.random.Generator) -> str:
    words = []
    for _ in range(int(rng.integers(1, 6))):
        words.append("".join(_LETTERS[int(i)] for i in rng.integers(26, size=int(rng.integers(2, 9)))))
    return " ".join(words)


def is_other(text: str) -> bool:
    """Whether a text is one of these sentences, gibberish aside."""
    return _plain(text) in _known()


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(map(_plain, (*train_sentences(), *heldout_sentences())))


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.lower()).strip()
