// The files here are compiled once for each instruction set, with -DVT_ISA=avx2 … and the compiler's flags for it. Each
// has the ops of a family, from ops/*.h, or from naive/*.h for the set "naive"; table.cpp has all of a set.
#pragma once

#include "../lanes.h"
#include "../step.h"

#define VT_NAIVE (VT_IS(VT_ISA) < 0)

// The function of an op in the table.
#define VT_EXPORT(op) \
    void run_##op(const Step& s, const void* fields) { run(s, *static_cast<const op_##op*>(fields)); }
