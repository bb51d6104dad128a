"""Words that made-up people, places and companies are named with: the commonest given names, and family names put together from parts."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    "Ada Adam Agnes Aidan Alan Alba Albert Alice Alina Amara Amir Amy Andre Angela Anita Anton Arthur Asha Astrid Basil "
    "Beatrice Bella Ben Bianca Boris Bruno Camila Carla Carmen Cecil Celia Chiara Clara Colin Cora Daisy Dana Daniel Daria "
    "David Dennis Diana Diego Dora Dylan Edgar Edith Elena Elias Elif Ella Emil Emma Enzo Erik Esther Eva Fabian Farah Felix "
    "Fiona Flora Frank Freya Gabriel Gemma George Gina Grace Greta Gustav Hana Hanna Harold Hassan Hazel Hector Helen Henry "
    "Hugo Ida Ines Ingrid Irene Iris Isaac Ivan Jade Jana Jasmine Jason Joan Joel Jonas Judith Julia Kai Kamal Karen Kiran "
    "Lara Laura Leah Leila Lena Leo Liam Lila Linda Lorenz Louis Lucia Luke Lydia Maja Marc Marcus Maria Marta Martin Maya "
    "Mia Milan Mira Mona Nadia Naomi Natalie Nico Nina Noah Nora Olga Oliver Omar Oscar Otto Pablo Paula Pedro Peter Philip "
    "Priya Rafael Rania Ravi Rita Robin Rosa Ruben Ruth Samir Sandra Sara Selma Silas Simon Sofia Stella Sven Tamara Tara "
    "Theo Thomas Tina Tobias Vera Victor Viola Walter Wanda Yara Yusuf Zoe"
)

_HEADS = _words(
    "Alder Ash Barn Beck Birch Black Bramble Brook Cald Carl Clay Cole Copper Cran Crest Dale Darn Dun East Elder Fair Fern "
    "Flint Fox Gold Gran Green Hales Ham Hart Haver Hazel Heath Hollow Kel King Lang Lark Linden Long Mar Mead Mill Moor Nor "
    "Oak Pen Quill Rad Red Rowan Rush Sand Shel Silver Stan Stone Sum Thorn Wake West Whit Wind Wood"
)
_TAILS = _words(
    "acre bank bourne bridge brook bury by combe croft dale den field ford gate grove ham hill holm hurst land leigh ley low "
    "man mere mont more ridge shaw stead stone ton tree vale wall ward water well wick wood worth"
)
#: Tails that make a place.
_PLACES = ("borough", "bury", "ford", "haven", "mouth", "port", "stead", "ton", "ville", "wick")

LAST_NAMES = tuple(head + tail for head in _HEADS for tail in _TAILS)
CITIES = tuple(head + tail for head in _HEADS for tail in _PLACES)
STREETS = ("Avenue", "Close", "Court", "Drive", "Lane", "Place", "Road", "Square", "Street", "Way")
TRADES = (
    "Bakery",
    "Consulting",
    "Energy",
    "Foods",
    "Group",
    "Holding",
    "Labs",
    "Logistics",
    "Media",
    "Partners",
    "Supply",
    "Works",
)

#: Words of names that tell nothing of whose name it is.
PARTICLES = frozenset(_words("al bin da das de del della den der di do dos du el la le ten ter van von y zu zum"))
TITLES = frozenset(_words("dr dr. herr frau jr jr. miss mr mr. mrs mrs. ms ms. prof prof. sr sr. ii iii iv phd m.d. md"))
