// The headers that the kernel needs and that are not specific to an instruction set. They are
// included before the compiler is switched to one: otherwise the linker could choose, for
// processors that lack those instructions, a copy of their functions that uses them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "flush.h"
#include "kernel.h"
#include "pages.h"
#include "fft_plan.h"
#include "scratch.h"
#include "threads.h"
