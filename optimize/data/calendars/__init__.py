"""Trading calendars: schedules of exchanges, usual weekly hours, and time zones."""
