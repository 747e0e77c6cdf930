// Marks what CPU and GPU share: the arithmetic of a kernel is written once.
#pragma once

#ifdef __CUDACC__
#define MARGINSEG_HOST_DEVICE __host__ __device__
#else
#define MARGINSEG_HOST_DEVICE
#endif
