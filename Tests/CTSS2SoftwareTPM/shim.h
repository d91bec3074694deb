// The TCTI for swtpm, for tests.
#pragma once
#include <stdint.h>
#include <tss2/tss2_common.h>
#include <tss2/tss2_tcti_swtpm.h>
