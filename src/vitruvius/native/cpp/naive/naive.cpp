// The references of all ops, compiled together as the set "naive"; each header here is only for this.
#include "attention.h"
#include "experts.h"
#include "index.h"
#include "matmul.h"
#include "recurrent.h"
#include "streams.h"
