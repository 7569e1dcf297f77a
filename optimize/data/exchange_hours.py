"""Usual weekly hours of every exchange: a first look at bars, before holidays and early closes are counted.

The hours are those of 2025. The order is that in which equal hours are named, the larger markets first.
"""

from dataclasses import dataclass

import numpy as np

from envs.types import BoolArray

SLOT_MINUTES = 5
SLOTS_A_DAY = 24 * 60 // SLOT_MINUTES
SLOTS_A_WEEK = 7 * SLOTS_A_DAY
MONDAY_TO_FRIDAY = (0, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Hours:
    """Usual trading hours in local time."""

    zone: str
    opens: str  # HH:MM
    closes: str
    lunch: tuple[str, str] | None = None  # from and to
    eve: bool = False  # opens on the evening before its date
    weekdays: tuple[int, ...] = MONDAY_TO_FRIDAY  # 0 is Monday

    def open_slots(self) -> BoolArray:
        """Return which 5-minute slots of a local week, from Monday 00:00 on, are open."""
        week = np.zeros(SLOTS_A_WEEK, dtype=np.bool_)
        start = _slot(self.opens) - (SLOTS_A_DAY if self.eve else 0)
        spans = [(start, _slot(self.closes, up=True))]
        if self.lunch is not None:
            spans = [(start, _slot(self.lunch[0])), (_slot(self.lunch[1]), spans[0][1])]
        for day in self.weekdays:
            for first, last in spans:
                week[(day * SLOTS_A_DAY + np.arange(first, last)) % SLOTS_A_WEEK] = True
        return week


def _slot(clock: str, *, up: bool = False) -> int:
    """Return the slot of a day that HH:MM lies in, or the next one where it lies inside a slot."""
    hours, minutes = clock.split(":")
    total = 60 * int(hours) + int(minutes)
    return -(-total // SLOT_MINUTES) if up else total // SLOT_MINUTES


HOURS: dict[str, Hours] = {
    "XNYS": Hours("America/New_York", "09:30", "16:00"),
    "XTSE": Hours("America/Toronto", "09:30", "16:00"),
    "XLON": Hours("Europe/London", "08:00", "16:30"),
    "XETR": Hours("Europe/Berlin", "09:00", "17:30"),
    "XPAR": Hours("Europe/Paris", "09:00", "17:30"),
    "XAMS": Hours("Europe/Amsterdam", "09:00", "17:30"),
    "XMIL": Hours("Europe/Rome", "09:00", "17:30"),
    "XMAD": Hours("Europe/Madrid", "09:00", "17:30"),
    "XSWX": Hours("Europe/Zurich", "09:00", "17:30"),
    "XSTO": Hours("Europe/Stockholm", "09:00", "17:30"),
    "XCSE": Hours("Europe/Copenhagen", "09:00", "17:00"),
    "XHEL": Hours("Europe/Helsinki", "10:00", "18:30"),
    "XOSL": Hours("Europe/Oslo", "09:00", "16:20"),
    "XTKS": Hours("Asia/Tokyo", "09:00", "15:30", lunch=("11:30", "12:30")),
    "XHKG": Hours("Asia/Hong_Kong", "09:30", "16:00", lunch=("12:00", "13:00")),
    "XSHG": Hours("Asia/Shanghai", "09:30", "15:00", lunch=("11:30", "13:00")),
    "XBOM": Hours("Asia/Kolkata", "09:15", "15:30"),
    "XKRX": Hours("Asia/Seoul", "09:00", "15:30"),
    "XTAI": Hours("Asia/Taipei", "09:00", "13:30"),
    "XASX": Hours("Australia/Sydney", "10:00", "16:00"),
    "XSES": Hours("Asia/Singapore", "09:00", "17:00"),
    "BVMF": Hours("America/Sao_Paulo", "10:00", "18:00"),
    "XMEX": Hours("America/Mexico_City", "08:30", "15:00"),
    "XJSE": Hours("Africa/Johannesburg", "09:00", "17:00"),
    "XSAU": Hours("Asia/Riyadh", "10:00", "15:00", weekdays=(6, 0, 1, 2, 3)),
    "XTAE": Hours("Asia/Jerusalem", "09:59", "17:15", weekdays=(6, 0, 1, 2, 3)),
    "XIST": Hours("Europe/Istanbul", "10:00", "18:00"),
    "XWAR": Hours("Europe/Warsaw", "09:00", "17:00"),
    "CMES": Hours("America/Chicago", "17:00", "17:00", eve=True),
    "us_futures": Hours("America/New_York", "18:00", "18:00", eve=True),
    "IEPA": Hours("America/New_York", "20:00", "18:00", eve=True),
    "AIXK": Hours("Asia/Almaty", "11:00", "17:00"),
    "ASEX": Hours("Europe/Athens", "10:00", "17:20"),
    "XBDA": Hours("Atlantic/Bermuda", "09:00", "16:30"),
    "XBEL": Hours("Europe/Belgrade", "09:30", "14:00"),
    "XBKK": Hours("Asia/Bangkok", "10:00", "16:30"),
    "XBOG": Hours("America/New_York", "09:30", "16:00"),
    "XBRA": Hours("Europe/Bratislava", "11:00", "15:30"),
    "XBRU": Hours("Europe/Brussels", "09:00", "17:30"),
    "XBSE": Hours("Europe/Bucharest", "10:00", "17:45"),
    "XBUD": Hours("Europe/Budapest", "09:00", "17:00"),
    "XBUE": Hours("America/Argentina/Buenos_Aires", "11:00", "17:00"),
    "XCBF": Hours("America/Chicago", "08:30", "15:15"),
    "XCYS": Hours("Asia/Nicosia", "10:30", "17:00"),
    "XDUB": Hours("Europe/Dublin", "08:00", "16:28"),
    "XDUS": Hours("Europe/Brussels", "08:00", "22:00"),
    "XEEE": Hours("Europe/Berlin", "08:00", "18:00"),
    "XEUR": Hours("Europe/Berlin", "08:00", "22:00"),
    "XFRA": Hours("Europe/Berlin", "09:00", "17:30"),
    "XHAM": Hours("Europe/Brussels", "08:00", "22:00"),
    "XICE": Hours("Atlantic/Reykjavik", "09:30", "15:30"),
    "XIDX": Hours("Asia/Jakarta", "09:00", "15:50"),
    "XKAR": Hours("Asia/Karachi", "09:32", "15:30"),
    "XKLS": Hours("Asia/Kuala_Lumpur", "09:00", "17:00"),
    "XLIM": Hours("America/Lima", "09:00", "16:00"),
    "XLIS": Hours("Europe/Lisbon", "08:00", "16:30"),
    "XLIT": Hours("Europe/Vilnius", "10:00", "16:00"),
    "XLJU": Hours("Europe/Ljubljana", "09:15", "15:15"),
    "XLUX": Hours("Europe/Luxembourg", "09:00", "17:40"),
    "XMOS": Hours("Europe/Moscow", "10:00", "18:45"),
    "XNZE": Hours("Pacific/Auckland", "10:00", "16:45"),
    "XPHS": Hours("Asia/Manila", "09:30", "15:30"),
    "XPRA": Hours("Europe/Prague", "09:00", "16:20"),
    "XRIS": Hours("Europe/Riga", "10:00", "16:00"),
    "XSGO": Hours("America/Santiago", "09:30", "16:00"),
    "XSTU": Hours("Europe/Berlin", "07:30", "22:00"),
    "XTAL": Hours("Europe/Tallinn", "10:00", "16:00"),
    "XWBO": Hours("Europe/Vienna", "09:00", "17:30"),
    "XZAG": Hours("Europe/Zagreb", "09:00", "16:00"),
}
