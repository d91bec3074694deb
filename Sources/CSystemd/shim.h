// sd-notify and the journal; the variadic calls have non-variadic twins (sd_journal_sendv).
#pragma once
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>
