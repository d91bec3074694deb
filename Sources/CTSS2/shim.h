// TSS2 ESYS, MU and the device TCTI. The TCTI loader (tctildr) is left out: it dlopens modules.
#pragma once
#include <stdint.h>
#include <string.h>
#include <tss2/tss2_common.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_rc.h>
#include <tss2/tss2_tcti_device.h>

// A macro over a function pointer in the context.
static inline void nacre_tcti_finalize(TSS2_TCTI_CONTEXT *context) { Tss2_Tcti_Finalize(context); }

// The TSS frees what it returned without wiping it.
static inline void nacre_wipe(void *bytes, size_t size) { explicit_bzero(bytes, size); }
