"""Usual weekly hours of every exchange (as of 2025), compared with bars before any exact calendar is built.

Larger markets come first: of exchanges with equal hours, the first is named.
"""

from dataclasses import dataclass

import numpy as np

from envs.types import BoolArray

SLOT_MINUTES = 5
SLOTS_A_DAY = 24 * 60 // SLOT_MINUTES
SLOTS_A_WEEK = 7 * SLOTS_A_DAY
MONDAY_TO_FRIDAY = (0, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class TradingHours:
    """Usual trading hours in local time."""

    zone: str
    opens: str  # HH:MM
    closes: str
    lunch: tuple[str, str] | None = None  # from and to
    eve: bool = False  # opens on the evening before its date
    weekdays: tuple[int, ...] = MONDAY_TO_FRIDAY  # 0 is Monday

    def open_slots(self) -> BoolArray:
        """Return which 5-minute slots of a local week from Monday 00:00 are open."""
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
    """Return the slot of a day that holds HH:MM; with up=True the next slot, unless HH:MM starts one."""
    hours, minutes = clock.split(":")
    total = 60 * int(hours) + int(minutes)
    return -(-total // SLOT_MINUTES) if up else total // SLOT_MINUTES


TRADING_HOURS: dict[str, TradingHours] = {
    "XNYS": TradingHours("America/New_York", "09:30", "16:00"),
    "XTSE": TradingHours("America/Toronto", "09:30", "16:00"),
    "XLON": TradingHours("Europe/London", "08:00", "16:30"),
    "XETR": TradingHours("Europe/Berlin", "09:00", "17:30"),
    "XPAR": TradingHours("Europe/Paris", "09:00", "17:30"),
    "XAMS": TradingHours("Europe/Amsterdam", "09:00", "17:30"),
    "XMIL": TradingHours("Europe/Rome", "09:00", "17:30"),
    "XMAD": TradingHours("Europe/Madrid", "09:00", "17:30"),
    "XSWX": TradingHours("Europe/Zurich", "09:00", "17:30"),
    "XSTO": TradingHours("Europe/Stockholm", "09:00", "17:30"),
    "XCSE": TradingHours("Europe/Copenhagen", "09:00", "17:00"),
    "XHEL": TradingHours("Europe/Helsinki", "10:00", "18:30"),
    "XOSL": TradingHours("Europe/Oslo", "09:00", "16:20"),
    "XTKS": TradingHours("Asia/Tokyo", "09:00", "15:30", lunch=("11:30", "12:30")),
    "XHKG": TradingHours("Asia/Hong_Kong", "09:30", "16:00", lunch=("12:00", "13:00")),
    "XSHG": TradingHours("Asia/Shanghai", "09:30", "15:00", lunch=("11:30", "13:00")),
    "XBOM": TradingHours("Asia/Kolkata", "09:15", "15:30"),
    "XKRX": TradingHours("Asia/Seoul", "09:00", "15:30"),
    "XTAI": TradingHours("Asia/Taipei", "09:00", "13:30"),
    "XASX": TradingHours("Australia/Sydney", "10:00", "16:00"),
    "XSES": TradingHours("Asia/Singapore", "09:00", "17:00"),
    "BVMF": TradingHours("America/Sao_Paulo", "10:00", "18:00"),
    "XMEX": TradingHours("America/Mexico_City", "08:30", "15:00"),
    "XJSE": TradingHours("Africa/Johannesburg", "09:00", "17:00"),
    "XSAU": TradingHours("Asia/Riyadh", "10:00", "15:00", weekdays=(6, 0, 1, 2, 3)),
    "XTAE": TradingHours("Asia/Jerusalem", "09:59", "17:15", weekdays=(6, 0, 1, 2, 3)),
    "XIST": TradingHours("Europe/Istanbul", "10:00", "18:00"),
    "XWAR": TradingHours("Europe/Warsaw", "09:00", "17:00"),
    "CMES": TradingHours("America/Chicago", "17:00", "17:00", eve=True),
    "us_futures": TradingHours("America/New_York", "18:00", "18:00", eve=True),
    "IEPA": TradingHours("America/New_York", "20:00", "18:00", eve=True),
    "AIXK": TradingHours("Asia/Almaty", "11:00", "17:00"),
    "ASEX": TradingHours("Europe/Athens", "10:00", "17:20"),
    "XBDA": TradingHours("Atlantic/Bermuda", "09:00", "16:30"),
    "XBEL": TradingHours("Europe/Belgrade", "09:30", "14:00"),
    "XBKK": TradingHours("Asia/Bangkok", "10:00", "16:30"),
    "XBOG": TradingHours("America/New_York", "09:30", "16:00"),
    "XBRA": TradingHours("Europe/Bratislava", "11:00", "15:30"),
    "XBRU": TradingHours("Europe/Brussels", "09:00", "17:30"),
    "XBSE": TradingHours("Europe/Bucharest", "10:00", "17:45"),
    "XBUD": TradingHours("Europe/Budapest", "09:00", "17:00"),
    "XBUE": TradingHours("America/Argentina/Buenos_Aires", "11:00", "17:00"),
    "XCBF": TradingHours("America/Chicago", "08:30", "15:15"),
    "XCYS": TradingHours("Asia/Nicosia", "10:30", "17:00"),
    "XDUB": TradingHours("Europe/Dublin", "08:00", "16:28"),
    "XDUS": TradingHours("Europe/Brussels", "08:00", "22:00"),
    "XEEE": TradingHours("Europe/Berlin", "08:00", "18:00"),
    "XEUR": TradingHours("Europe/Berlin", "08:00", "22:00"),
    "XFRA": TradingHours("Europe/Berlin", "09:00", "17:30"),
    "XHAM": TradingHours("Europe/Brussels", "08:00", "22:00"),
    "XICE": TradingHours("Atlantic/Reykjavik", "09:30", "15:30"),
    "XIDX": TradingHours("Asia/Jakarta", "09:00", "15:50"),
    "XKAR": TradingHours("Asia/Karachi", "09:32", "15:30"),
    "XKLS": TradingHours("Asia/Kuala_Lumpur", "09:00", "17:00"),
    "XLIM": TradingHours("America/Lima", "09:00", "16:00"),
    "XLIS": TradingHours("Europe/Lisbon", "08:00", "16:30"),
    "XLIT": TradingHours("Europe/Vilnius", "10:00", "16:00"),
    "XLJU": TradingHours("Europe/Ljubljana", "09:15", "15:15"),
    "XLUX": TradingHours("Europe/Luxembourg", "09:00", "17:40"),
    "XMOS": TradingHours("Europe/Moscow", "10:00", "18:45"),
    "XNZE": TradingHours("Pacific/Auckland", "10:00", "16:45"),
    "XPHS": TradingHours("Asia/Manila", "09:30", "15:30"),
    "XPRA": TradingHours("Europe/Prague", "09:00", "16:20"),
    "XRIS": TradingHours("Europe/Riga", "10:00", "16:00"),
    "XSGO": TradingHours("America/Santiago", "09:30", "16:00"),
    "XSTU": TradingHours("Europe/Berlin", "07:30", "22:00"),
    "XTAL": TradingHours("Europe/Tallinn", "10:00", "16:00"),
    "XWBO": TradingHours("Europe/Vienna", "09:00", "17:30"),
    "XZAG": TradingHours("Europe/Zagreb", "09:00", "16:00"),
}
