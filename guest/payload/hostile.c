#include "clib.h"
