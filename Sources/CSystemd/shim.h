// sd-notify, the journal and sd-bus; the variadic calls have non-variadic twins (sd_journal_sendv,
// sd_bus_message_append_basic).
#pragma once
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>
