"""Questions with one short answer: countries and their capitals, and other facts as a control."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from headpursuit.demo.splits import Split

# country: (capital, continent)
COUNTRIES: dict[str, tuple[str, str]] = {
    "Albania": ("Tirana", "Europe"),
    "Algeria": ("Algiers", "Africa"),
    "Angola": ("Luanda", "Africa"),
    "Argentina": ("Buenos Aires", "America"),
    "Armenia": ("Yerevan", "Asia"),
    "Australia": ("Canberra", "Oceania"),
    "Austria": ("Vienna", "Europe"),
    "Bangladesh": ("Dhaka", "Asia"),
    "Belgium": ("Brussels", "Europe"),
    "Bolivia": ("Sucre", "America"),
    "Botswana": ("Gaborone", "Africa"),
    "Brazil": ("Brasilia", "America"),
    "Bulgaria": ("Sofia", "Europe"),
    "Cambodia": ("Phnom Penh", "Asia"),
    "Canada": ("Ottawa", "America"),
    "Chile": ("Santiago", "America"),
    "China": ("Beijing", "Asia"),
    "Colombia": ("Bogota", "America"),
    "Croatia": ("Zagreb", "Europe"),
    "Cuba": ("Havana", "America"),
    "Cyprus": ("Nicosia", "Europe"),
    "Denmark": ("Copenhagen", "Europe"),
    "Ecuador": ("Quito", "America"),
    "Egypt": ("Cairo", "Africa"),
    "Estonia": ("Tallinn", "Europe"),
    "Ethiopia": ("Addis Ababa", "Africa"),
    "Fiji": ("Suva", "Oceania"),
    "Finland": ("Helsinki", "Europe"),
    "France": ("Paris", "Europe"),
    "Georgia": ("Tbilisi", "Asia"),
    "Germany": ("Berlin", "Europe"),
    "Ghana": ("Accra", "Africa"),
    "Greece": ("Athens", "Europe"),
    "Haiti": ("Port-au-Prince", "America"),
    "Honduras": ("Tegucigalpa", "America"),
    "Hungary": ("Budapest", "Europe"),
    "Iceland": ("Reykjavik", "Europe"),
    "India": ("New Delhi", "Asia"),
    "Indonesia": ("Jakarta", "Asia"),
    "Iran": ("Tehran", "Asia"),
    "Iraq": ("Baghdad", "Asia"),
    "Ireland": ("Dublin", "Europe"),
    "Italy": ("Rome", "Europe"),
    "Jamaica": ("Kingston", "America"),
    "Japan": ("Tokyo", "Asia"),
    "Jordan": ("Amman", "Asia"),
    "Kenya": ("Nairobi", "Africa"),
    "Latvia": ("Riga", "Europe"),
    "Lebanon": ("Beirut", "Asia"),
    "Libya": ("Tripoli", "Africa"),
    "Lithuania": ("Vilnius", "Europe"),
    "Madagascar": ("Antananarivo", "Africa"),
    "Malaysia": ("Kuala Lumpur", "Asia"),
    "Mali": ("Bamako", "Africa"),
    "Malta": ("Valletta", "Europe"),
    "Mexico": ("Mexico City", "America"),
    "Mongolia": ("Ulaanbaatar", "Asia"),
    "Morocco": ("Rabat", "Africa"),
    "Mozambique": ("Maputo", "Africa"),
    "Namibia": ("Windhoek", "Africa"),
    "Nepal": ("Kathmandu", "Asia"),
    "New Zealand": ("Wellington", "Oceania"),
    "Nicaragua": ("Managua", "America"),
    "Nigeria": ("Abuja", "Africa"),
    "Norway": ("Oslo", "Europe"),
    "Pakistan": ("Islamabad", "Asia"),
    "Paraguay": ("Asuncion", "America"),
    "Peru": ("Lima", "America"),
    "Philippines": ("Manila", "Asia"),
    "Poland": ("Warsaw", "Europe"),
    "Portugal": ("Lisbon", "Europe"),
    "Qatar": ("Doha", "Asia"),
    "Romania": ("Bucharest", "Europe"),
    "Russia": ("Moscow", "Europe"),
    "Rwanda": ("Kigali", "Africa"),
    "Saudi Arabia": ("Riyadh", "Asia"),
    "Senegal": ("Dakar", "Africa"),
    "Serbia": ("Belgrade", "Europe"),
    "Slovakia": ("Bratislava", "Europe"),
    "Slovenia": ("Ljubljana", "Europe"),
    "South Korea": ("Seoul", "Asia"),
    "Spain": ("Madrid", "Europe"),
    "Sudan": ("Khartoum", "Africa"),
    "Sweden": ("Stockholm", "Europe"),
    "Switzerland": ("Bern", "Europe"),
    "Syria": ("Damascus", "Asia"),
    "Thailand": ("Bangkok", "Asia"),
    "Tunisia": ("Tunis", "Africa"),
    "Turkey": ("Ankara", "Asia"),
    "Uganda": ("Kampala", "Africa"),
    "Ukraine": ("Kyiv", "Europe"),
    "Uruguay": ("Montevideo", "America"),
    "Venezuela": ("Caracas", "America"),
    "Vietnam": ("Hanoi", "Asia"),
    "Zambia": ("Lusaka", "Africa"),
    "Zimbabwe": ("Harare", "Africa"),
}
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
OPPOSITES = (
    ("hot", "cold"),
    ("up", "down"),
    ("open", "closed"),
    ("early", "late"),
    ("fast", "slow"),
    ("high", "low"),
    ("wet", "dry"),
    ("light", "dark"),
    ("hard", "soft"),
    ("full", "empty"),
    ("rich", "poor"),
    ("strong", "weak"),
    ("left", "right"),
    ("near", "far"),
    ("clean", "dirty"),
    ("long", "short"),
    ("day", "night"),
    ("north", "south"),
    ("east", "west"),
    ("win", "lose"),
)
COUNTRY_NAMES: tuple[str, ...] = tuple(COUNTRIES)
CAPITAL_NAMES: tuple[str, ...] = tuple(capital for capital, _ in COUNTRIES.values())
CONTINENT_NAMES: tuple[str, ...] = ("Europe", "Asia", "Africa", "America", "Oceania")

# kind: the phrasings of its question; "{}" is the subject
_PHRASINGS: dict[str, tuple[str, ...]] = {
    "country": (
        "{} is the capital of which country?",
        "Which country has {} as its capital?",
        "What country is {} the capital of?",
        "Name the country whose capital is {}.",
        "In which country is {} the capital?",
        "Of which country is {} the capital city?",
        "Which country is governed from {}?",
        "The capital {} belongs to which country?",
        "Tell me the country with the capital {}.",
        "A traveller in the capital {} is in what country?",
        "For which country is {} the seat of government?",
        "{} is the capital city of what country?",
    ),
    "capital": (
        "What is the capital of {}?",
        "Which city is the capital of {}?",
        "Name the capital city of {}.",
        "Tell me the capital of {}.",
        "What city is the capital of {}?",
        "{} has which city as its capital?",
        "From which city is {} governed?",
        "The capital of {} is which city?",
        "In {}, what is the capital called?",
        "Where does the government of {} sit?",
    ),
    "continent": (
        "On which continent is {}?",
        "Which continent does {} belong to?",
        "Name the continent of {}.",
        "{} lies on which continent?",
        "What continent is {} part of?",
        "Tell me the continent where {} lies.",
    ),
    "month after": (
        "Which month comes after {}?",
        "What month follows {}?",
        "Name the month after {}.",
        "{} is followed by which month?",
        "Tell me the month that comes next after {}.",
        "After {} comes which month?",
    ),
    "month before": (
        "Which month comes before {}?",
        "What month precedes {}?",
        "Name the month before {}.",
        "{} is preceded by which month?",
        "Tell me the month that comes just before {}.",
        "Before {} comes which month?",
    ),
    "weekday after": (
        "Which day comes after {}?",
        "What day follows {}?",
        "Name the day after {}.",
        "{} is followed by which day?",
        "Tell me the day that comes next after {}.",
        "After {} comes which day?",
    ),
    "weekday before": (
        "Which day comes before {}?",
        "What day precedes {}?",
        "Name the day before {}.",
        "{} is preceded by which day?",
        "Tell me the day that comes just before {}.",
        "Before {} comes which day?",
    ),
    "opposite": (
        "What is the opposite of {}?",
        "Name the opposite of {}.",
        "Tell me the opposite of {}.",
        "Which word means the opposite of {}?",
        "{} is the opposite of what?",
        "What word is the contrary of {}?",
    ),
}
# kind: how many of a subject's phrasings are kept for (test, selection)
_HELD_OUT = {"country": (3, 2), "capital": (2, 1)}
OTHER_KINDS: tuple[str, ...] = tuple(kind for kind in _PHRASINGS if kind != "country")


@dataclass(frozen=True)
class Question:
    """A question, its answer, and what tells it apart from others."""

    kind: str
    subject: str
    phrasing: int
    text: str
    answer: str


def questions(kind: str, split: Split) -> tuple[Question, ...]:
    """Return every question of a kind that belongs to `split`.

    Every (subject, phrasing) pair belongs to one split only: the fact itself is learned, the question asked at test is new.
    """
    phrasings = _PHRASINGS[kind]
    test, selection = _HELD_OUT.get(kind, (1, 1))
    result = []
    for subject, answer in _facts(kind):
        order = sorted(range(len(phrasings)), key=lambda number: _hash(f"{kind}|{subject}|{number}"))
        chosen = {
            "test": order[:test],
            "selection": order[test : test + selection],
            "train": order[test + selection :],
        }[split]
        result += [Question(kind, subject, number, phrasings[number].format(subject), answer) for number in chosen]
    return tuple(result)


def _facts(kind: str) -> list[tuple[str, str]]:
    if kind == "country":
        return [(capital, country) for country, (capital, _) in COUNTRIES.items()]
    if kind == "capital":
        return [(country, capital) for country, (capital, _) in COUNTRIES.items()]
    if kind == "continent":
        return [(country, continent) for country, (_, continent) in COUNTRIES.items()]
    if kind == "opposite":
        return [*OPPOSITES, *((right, left) for left, right in OPPOSITES)]
    cycle = MONTHS if kind.startswith("month") else WEEKDAYS
    step = 1 if kind.endswith("after") else -1
    return [(name, cycle[(index + step) % len(cycle)]) for index, name in enumerate(cycle)]


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
