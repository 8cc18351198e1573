// What the kernel needs that is not specific to an instruction set: included before the compiler
// is switched to one, so that nothing in it is compiled for processors that may lack it.
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
