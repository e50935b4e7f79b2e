"""Words that training never shows, with what they mean. Kept apart from `words` for evaluation."""

from __future__ import annotations

SHAPES: dict[str, tuple[str, ...]] = {
    "sphere": ("marble", "spheroid", "bauble"),
    "cube": ("cuboid", "brick", "hexahedron"),
    "cylinder": ("barrel", "pipe", "canister"),
    "cone": ("funnel", "spire", "spike"),
    "chest": ("coffer", "strongbox", "casket"),
}
COLORS: dict[str, tuple[str, ...]] = {
    "red": ("maroon", "vermilion", "tomato"),
    "orange": ("apricot", "carrot colored"),
    "yellow": ("mustard", "saffron"),
    "green": ("olive", "jade"),
    "blue": ("indigo", "sapphire"),
    "purple": ("mauve", "plum", "aubergine"),
}
ADJECTIVES = (
    "shiny",
    "lovely",
    "gorgeous",
    "ugly",
    "wonderful",
    "strange",
    "boring",
    "pretty",
    "famous",
    "expensive",
)
"""Adjectives that tell no solid of the world from another."""
ADVERBS = (
    "swiftly",
    "promptly",
    "gently",
    "immediately",
    "carefully",
    "obviously",
    "hopefully",
    "definitely",
)
FILLERS = (*ADJECTIVES, *ADVERBS)
"""Words that a reader may leave out."""
VERBS: dict[str, tuple[str, ...]] = {
    "add": ("(plonk|plop|conjure|materialize|embed) {kind} (here|there|in the picture|into the picture)",),
    "replace": (
        "(metamorphose|remodel|refashion|reshape) {ref} into {kind}",
        "(supersede|supplant) {ref} with {kind}",
    ),
    "color": ("(lacquer|enamel|glaze|bathe) {ref} in {color}", "(lacquer|varnish|airbrush) {ref} {color}"),
    "shrink": ("(whittle|taper) {ref} down so that it is smaller",),
    "enlarge": ("(inflate|stretch) {ref} so that it is bigger",),
    "stripe": ("(emblazon|adorn|ornament|festoon) {ref} with stripes",),
    "unstripe": ("(scrub|peel|bleach) the stripes (from|off) {ref}",),
    "background": ("(teleport|evacuate|migrate) (the scene|everything) to {background}",),
    "style": ("(reimagine|depict|portray) (it|the picture|the scene) {when}",),
    "exactly": ("(guarantee|ensure) exactly {count}",),
    "one_more": ("(conjure|plonk|materialize) {more} (here|there|in the picture)",),
    "move": ("(transport|haul|shove|scoot|lug) {ref} {beside} {ref2}",),
    "swap": ("(transpose|permute) the positions of {ref} and {ref2}",),
    "between": ("(sandwich|wedge|insinuate|haul|shove) {ref} between {ref2} and {ref3}",),
    "stack": ("(plonk|hoist|perch|heave) {ref} {on} {ref2}",),
    "roll": ("(trundle|bowl|whirl) {ref} rolling to the {side}",),
    "topple": ("(whack|clobber|bump) {ref} so that it falls over",),
    "open": ("(pry|crank|jimmy) the lid of {ref} open", "(hoist|prop up) the lid of {ref}"),
    "gather": ("(muster|assemble|marshal) {all} in (a|one) (row|line)",),
}
"""Sentences with one verb that training never shows; the rest of the sentence determines the edit."""
