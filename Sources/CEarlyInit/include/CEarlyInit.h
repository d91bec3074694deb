// Nothing to call: what this target does happens before `main`.
#pragma once
