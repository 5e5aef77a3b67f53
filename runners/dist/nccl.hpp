/// NCCL as a back end of process groups. It needs CUDA's libraries, so that it is in a library that
/// is loaded where a GPU is used.
#pragma once
#include <c10/util/intrusive_ptr.h>

#include <cstdint>

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace seg {

using NcclFactory = c10::intrusive_ptr<c10d::Backend> (*)(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, int64_t timeout_s);

/// nullptr where the library is not loaded or was built without NCCL.
NcclFactory nccl_factory();

/// Called once by the loaded library.
void set_nccl_factory(NcclFactory factory);

}  // namespace seg
