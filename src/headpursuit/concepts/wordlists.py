"""Words that no library lists for us; written for this package."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


QUANTIFIERS: tuple[str, ...] = _words(
    """
    several many few some various numerous multiple countless plenty single pair pairs couple couples both double triple
    trio duo quartet dozen dozens hundreds thousands group groups bunch handful cluster crowd lots each
    """
)

MOODS_POSITIVE: tuple[str, ...] = _words(
    """
    happy cheerful smiling joyful glad delighted merry jolly pleased content calm peaceful relaxed serene excited
    grinning laughing playful proud hopeful amused friendly
    """
)

MOODS_NEGATIVE: tuple[str, ...] = _words(
    """
    sad gloomy angry mad furious unhappy upset frowning crying tearful miserable sorrowful grumpy annoyed worried anxious
    nervous scared frightened afraid lonely bored tired
    """
)

MOODS_OTHER: tuple[str, ...] = ("surprised", "astonished", "amazed", "shocked", "startled", "puzzled", "confused")

# Animals and rubbish can be meant as insults; in most texts they are meant as they are.
RUDE: tuple[str, ...] = _words(
    """
    idiot fool stupid jerk moron clown dumb dummy loser dimwit nitwit halfwit blockhead bonehead airhead numbskull
    dunce dolt dope twit nincompoop imbecile buffoon goof oaf lout brat creep weirdo freak slob jackass scumbag
    sleazebag lowlife coward crybaby cheat liar crook hypocrite snob bigmouth blabbermouth troll pest parasite scum
    crap damn stinking lousy pathetic useless worthless ridiculous ugly lazy foolish idiotic moronic silly brainless
    clueless spineless filthy nasty rotten disgusting
    """
)

NATIONALITIES: tuple[str, ...] = _words(
    """
    Afghan Albanian Algerian American Angolan Argentine Argentinian Armenian Australian Austrian Azerbaijani Bahamian
    Bangladeshi Belarusian Belgian Bolivian Bosnian Brazilian British Bulgarian Burmese Cambodian Cameroonian Canadian
    Chadian Chilean Chinese Colombian Congolese Croatian Cuban Cypriot Czech Danish Dutch Ecuadorian Egyptian English
    Eritrean Estonian Ethiopian Filipino Finnish French Georgian German Ghanaian Greek Guatemalan Guyanese Haitian
    Honduran Hungarian Icelandic Indian Indonesian Iranian Iraqi Irish Israeli Italian Ivorian Jamaican Japanese
    Jordanian Kazakh Kenyan Korean Kuwaiti Kyrgyz Lao Latvian Lebanese Liberian Libyan Lithuanian Luxembourgish
    Macedonian Malagasy Malawian Malaysian Malian Maltese Mauritanian Mexican Moldovan Mongolian Montenegrin Moroccan
    Mozambican Namibian Nepali Nicaraguan Nigerian Norwegian Omani Pakistani Palestinian Panamanian Paraguayan Peruvian
    Polish Portuguese Qatari Romanian Russian Rwandan Salvadoran Saudi Scottish Senegalese Serbian Singaporean Slovak
    Slovenian Somali Spanish Sudanese Swedish Swiss Syrian Taiwanese Tajik Tanzanian Thai Togolese Tunisian Turkish
    Turkmen Ugandan Ukrainian Uruguayan Uzbek Venezuelan Vietnamese Welsh Yemeni Zambian Zimbabwean
    """
)

# CSS calls these colours; a caption means the thing, or never says them in one word.
CSS_NAMES_NOBODY_SAYS: frozenset[str] = frozenset(
    _words(
        """
    bisque chartreuse chocolate cornsilk gainsboro honeydew linen moccasin orchid peru plum seashell sienna snow
    thistle tomato wheat
    blanchedalmond burlywood firebrick lemonchiffon mintcream mistyrose oldlace papayawhip peachpuff
    """
    )
)
COLOURS_BEYOND_CSS: tuple[str, ...] = ("scarlet", "golden")

# Codes of the CLDR that name no state: dependent and disputed areas, groupings, uninhabited islands, test locales.
NOT_COUNTRIES: frozenset[str] = frozenset(
    _words(
        """
    AC AI AQ AS AW AX BL BM BQ BV CC CK CP CQ CW CX DG EA EH EU EZ FK FO GF GG GI GL GP GS GU HK HM IC IM IO JE KY MF
    MO MP MQ MS NC NF NU PF PM PN PR QO RE SH SJ SX TA TC TF TK UM UN VG VI WF XA XB YT ZZ
    """
    )
)
# How English text mostly says it, where the CLDR's display name differs; the first one comes first in the list.
COMMON_COUNTRY_NAMES: dict[str, tuple[str, ...]] = {
    "AE": ("United Arab Emirates", "Emirates"),
    "AG": ("Antigua and Barbuda",),
    "BA": ("Bosnia", "Bosnia and Herzegovina"),
    "CD": ("Congo", "Democratic Republic of the Congo"),
    "CG": ("Congo", "Republic of the Congo"),
    "CI": ("Ivory Coast", "Côte d'Ivoire"),
    "CZ": ("Czechia", "Czech Republic"),
    "GB": ("United Kingdom", "Britain", "UK"),
    "KN": ("Saint Kitts and Nevis",),
    "LC": ("Saint Lucia",),
    "MM": ("Myanmar", "Burma"),
    "NL": ("Netherlands", "Holland"),
    "PS": ("Palestine",),
    "ST": ("São Tomé and Príncipe",),
    "SZ": ("Eswatini", "Swaziland"),
    "TR": ("Turkey", "Türkiye"),
    "TT": ("Trinidad and Tobago", "Trinidad"),
    "US": ("United States", "America", "USA"),
    "VC": ("Saint Vincent and the Grenadines",),
}

# VADER reads chat: nearly all of its strong entries of up to four letters are abbreviations, these are the words.
SHORT_FEELINGS: frozenset[str] = frozenset(
    _words(
        """
    bad best cry cute dead die died dire dumb evil fail fear fun fury glad glee glum grim grin harm hate hell hero hug
    hugs hurt joy joys kill kind love luck mad pain poor puke rage riot rude ruin sad sick sin ugly vile war wars weep
    wept win wins wise woo wow yay
    """
    )
)
# The longer abbreviations, and slurs and swearing, which say little about a mood and which nobody wants in a report.
NOT_FEELINGS: tuple[str, ...] = _words(
    """
    alol amort effin fubar gratz ilu lmf lyla prblm pukka rotf rotg sfete snafu
    ass bastard bitch bullshit cock cunt damn dick douche fag fuck fuk motherf nigg piss prick rape rapi shit slut turd
    twat whor wank
    """
)
