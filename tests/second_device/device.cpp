// A device of its own in a build of torch for CPUs, so that tests see what only a GPU would show: a tensor that was left
// behind, a weight that has gone when the backward wants it, and how much memory is in use at the most.
//
// Its memory is the host's, counted, and its kernels are the host's, which refuse to mix the two. Kernels run as they are
// called; copies from and to pinned memory wait in their stream, and streams.h tells of races. It takes the name of a
// device that torch knows but a CPU build has no kernels for ("hpu"), since parameters of unknown devices cannot change
// places with those of the CPU in the way `.data` of CUDA can.
#include <ATen/EmptyTensor.h>
#include <ATen/detail/HPUHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/extension.h>

#include <atomic>
#include <cstdlib>

#include "streams.h"

namespace {

constexpr auto kType = c10::DeviceType::HPU;
const c10::Device kDevice(kType, 0);
const c10::DispatchKeySet kKeys(c10::DispatchKey::HPU);

// ---- memory, counted --------------------------------------------------------------------------------------------------

std::atomic<int64_t> allocated{0}, most_allocated{0}, copied_to_device{0};
// how often a GPU would make the host wait: for a value, for a shape that depends on values, for a blocking copy
std::atomic<int64_t> host_waits{0};
auto& streams = *new Streams;  // memory is freed after all else has gone
thread_local size_t current_stream = 0;

using Block = std::shared_ptr<Memory>;

void release(void* context) {
  auto* block = static_cast<Block*>(context);
  allocated -= (*block)->bytes;
  streams.free(**block);
  delete block;
}

struct CountingAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    auto* block = new Block(streams.allocate(bytes, current_stream));
    const int64_t now = allocated += bytes;
    int64_t most = most_allocated;
    while (now > most && !most_allocated.compare_exchange_weak(most, now)) {
    }
    return {(*block)->data, block, &release, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};

CountingAllocator allocator;
REGISTER_ALLOCATOR(kType, &allocator);

// Memory of the host that copies need not wait for. It is like any other, and known by its addresses.
struct PinnedAllocator final : c10::Allocator {
  static inline std::mutex mutex;
  static inline std::map<const char*, size_t> pinned;

  static void unpin(void* data) {
    std::lock_guard lock(mutex);
    pinned.erase(static_cast<char*>(data));
    std::free(data);
  }
  static bool is_pinned(const void* data) {
    std::lock_guard lock(mutex);
    auto after = pinned.upper_bound(static_cast<const char*>(data));
    return after != pinned.begin() && data < std::prev(after)->first + std::prev(after)->second;
  }
  c10::DataPtr allocate(size_t bytes) override {
    void* data = std::malloc(bytes);
    std::lock_guard lock(mutex);
    pinned[static_cast<char*>(data)] = bytes;
    return {data, data, &unpin, c10::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &unpin; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};

PinnedAllocator pinned_allocator;

// ---- one device, its streams and events -------------------------------------------------------------------------------

void host_wait(const Clock& event) {
  host_waits++;
  streams.host_wait(event);
}

struct Guard final : c10::impl::NoOpDeviceGuardImpl<kType> {
  static c10::Stream stream(size_t id) { return c10::Stream(c10::Stream::UNSAFE, kDevice, id); }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(current_stream); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(0); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(streams.add()); }
  c10::Stream exchangeStream(c10::Stream to) const noexcept override {
    return stream(std::exchange(current_stream, to.id()));
  }
  void record(void** event, const c10::Stream& stream, const c10::DeviceIndex, const c10::EventFlag) const override {
    delete static_cast<Clock*>(std::exchange(*event, new Clock(streams.event(stream.id()))));
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override { delete static_cast<Clock*>(event); }
  void block(void* event, const c10::Stream& stream) const override {
    if (event) {
      streams.wait(stream.id(), *static_cast<Clock*>(event));
    }
  }
  bool queryEvent(void*) const override { return false; }  // as late as may be: who asks again and again would never end
  bool queryStream(const c10::Stream&) const override { return false; }
  void synchronizeEvent(void* event) const override {
    if (event) {
      host_wait(*static_cast<Clock*>(event));
    }
  }
  void synchronizeStream(const c10::Stream& stream) const override { host_wait(streams.event(stream.id())); }
  void synchronizeDevice(const c10::DeviceIndex) const override { host_wait(streams.all()); }
  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
    if (data.get_context()) {
      streams.record(**static_cast<Block*>(data.get_context()), stream.id());
    }
  }
};
C10_REGISTER_GUARD_IMPL(HPU, Guard);

}  // namespace

namespace at {

// torch looks for a class of this name
struct HPUHooks final : HPUHooksInterface {
  explicit HPUHooks(HPUHooksArgs) {}
  void init() const override {}
  bool hasHPU() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool isPinnedPtr(const void* data) const override { return PinnedAllocator::is_pinned(data); }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
  Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator; }
};
REGISTER_HPU_HOOKS(HPUHooks);

}  // namespace at

namespace {

// ---- tensors ----------------------------------------------------------------------------------------------------------

at::Tensor empty(
    c10::IntArrayRef size,
    std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>,
    std::optional<at::Device>,
    std::optional<bool>,
    std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator, kKeys, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(
    c10::IntArrayRef size,
    c10::IntArrayRef stride,
    std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>,
    std::optional<at::Device>,
    std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator, kKeys, c10::dtype_or_default(dtype));
}

// The memory of a tensor as a tensor of the host, which keeps it if it is asked to.
at::Tensor host(const at::Tensor& x, bool keep = false) {
  if (x.is_cpu()) {
    return x;
  }
  const auto& storage = x.storage();
  auto flat = at::from_blob(
      storage.data_ptr().get(),
      {static_cast<int64_t>(storage.nbytes() / x.element_size())},
      [kept = keep ? storage : at::Storage()](void*) {},
      x.options().device(at::kCPU));
  auto seen = flat.as_strided(x.sizes(), x.strides(), x.storage_offset());
  seen = x.is_conj() ? seen.conj() : seen;
  return x.is_neg() ? at::_neg_view(seen) : seen;
}

at::Tensor to_device(const at::Tensor& x) {
  return x.defined() ? x.to(kDevice) : x;
}

// Who works with it.
const Block& memory(const at::Tensor& x) {
  return *static_cast<Block*>(x.storage().data_ptr().get_context());
}

void access(const at::Tensor& x, bool writes, const std::string& what) {
  if (!x.is_cpu() && x.storage().nbytes()) {
    streams.access(*memory(x), current_stream, writes, what);
  }
}

// What is computed while this lives is one piece of work of the current stream.
struct Kernel {
  static inline thread_local int depth = 0;
  static inline thread_local std::string name;

  explicit Kernel(const std::string& name) {
    if (depth++ == 0) {
      this->name = name;
      streams.begin(current_stream);
      streams.run(current_stream, true);
    }
  }
  ~Kernel() { depth--; }
};

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (from.numel() == 0) {
    return to;
  }
  if (Kernel::depth || from.device() == to.device()) {
    Kernel kernel("a copy within the device");
    access(from, false, kernel.name);
    access(to, true, kernel.name);
    host(to).copy_(host(from));
    return to;
  }
  const std::string name = from.is_cpu() ? "a copy to the device" : "a copy to the host";
  copied_to_device += from.is_cpu() ? from.nbytes() : 0;
  streams.begin(current_stream);
  access(from, false, name);
  access(to, true, name);
  const auto copy = [from = host(from).detach(), to = host(to).detach(), kept = memory(from.is_cpu() ? to : from)] {
    at::AutoDispatchBelowADInplaceOrView no_gradients;
    to.copy_(from);
  };
  if (non_blocking && (from.is_cpu() ? from : to).is_pinned()) {
    streams.queue(current_stream, copy);
    return to;
  }
  // CUDA may return from a copy out of pageable memory before it is done, but not from one into it
  streams.run(current_stream, false);
  copy();
  if (!(non_blocking && from.is_cpu())) {
    host_wait(streams.event(current_stream));
  }
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) {
    to.resize_(from.sizes());
  }
  return copy_from(from, to, false);
}

at::Scalar local_scalar(const at::Tensor& x) {
  Kernel kernel("a value for the host");
  access(x, false, kernel.name);
  if (Kernel::depth == 1) {
    host_wait(streams.event(current_stream));
  }
  return host(x).item();
}

const at::Tensor& resize(const at::Tensor& x, c10::IntArrayRef size, std::optional<at::MemoryFormat>) {
  const size_t bytes = (x.storage_offset() + c10::multiply_integers(size)) * x.element_size();
  auto& storage = x.storage();
  if (storage.nbytes() < bytes) {
    Kernel kernel("resize_");
    auto data = allocator.allocate(bytes);
    if (storage.nbytes()) {
      access(x, false, kernel.name);
      std::memcpy(data.get(), storage.data_ptr().get(), storage.nbytes());
    }
    storage.set_data_ptr(std::move(data));
    storage.set_nbytes(bytes);
    access(x, true, kernel.name);
  }
  x.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return x;
}

void record_stream(at::Tensor& x, c10::Stream stream) {
  streams.record(*memory(x), stream.id());
}

at::Tensor& set_storage_view(
    at::Tensor& x, at::Storage source, int64_t offset, c10::IntArrayRef size, c10::IntArrayRef stride) {
  x.unsafeGetTensorImpl()->set_storage_keep_dtype(source);
  x.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride, offset);
  return x;
}

at::Tensor& set_storage(at::Tensor& x, at::Storage source) {
  const int64_t numel = source.nbytes() / x.element_size();
  return set_storage_view(x, source, 0, {numel}, {1});
}

// ---- kernels ----------------------------------------------------------------------------------------------------------

void check_same_device(bool on_host, bool on_device, const std::string& name) {
  TORCH_CHECK(
      !(on_host && on_device), "Expected all tensors to be on the same device, but found ", kDevice, " and cpu in ", name);
}

at::Tensor convolution(
    const at::Tensor& input,
    const at::Tensor& weight,
    const std::optional<at::Tensor>& bias,
    c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding,
    c10::SymIntArrayRef dilation,
    bool transposed,
    c10::SymIntArrayRef output_padding,
    c10::SymInt groups) {
  check_same_device(input.is_cpu() || weight.is_cpu(), true, "convolution");
  std::optional<at::Tensor> host_bias;
  Kernel kernel("convolution");
  access(input, false, kernel.name);
  access(weight, false, kernel.name);
  if (bias && bias->defined()) {
    access(*bias, false, kernel.name);
    host_bias = host(*bias);
  }
  return to_device(at::convolution_symint(
      host(input), host(weight), host_bias, stride, padding, dilation, transposed, output_padding, groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient,
    const at::Tensor& input,
    const at::Tensor& weight,
    c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding,
    c10::SymIntArrayRef dilation,
    bool transposed,
    c10::SymIntArrayRef output_padding,
    c10::SymInt groups,
    std::array<bool, 3> wanted) {
  check_same_device(gradient.is_cpu() || input.is_cpu() || weight.is_cpu(), true, "convolution_backward");
  const std::vector<c10::SymInt> bias_sizes{gradient.sym_size(1)};
  Kernel kernel("convolution_backward");
  for (const auto* x : {&gradient, &input, &weight}) {
    access(*x, false, kernel.name);
  }
  auto [for_input, for_weight, for_bias] = at::convolution_backward_symint(
      host(gradient), host(input), host(weight), c10::SymIntArrayRef(bias_sizes), stride, padding, dilation, transposed,
      output_padding, groups, wanted);
  return {to_device(for_input), to_device(for_weight), to_device(for_bias)};
}

// What a collective is given. It may still work on it when the tensor has gone.
c10::IValue seen_by_host(const c10::IValue& value) {
  if (value.isTensor()) {
    return value.toTensor().defined() ? host(value.toTensor(), true) : value;
  }
  if (value.isTensorList()) {
    c10::List<at::Tensor> tensors;
    for (const at::Tensor& x : value.toTensorList()) {
      tensors.push_back(host(x, true));
    }
    return tensors;
  }
  if (value.isList() && value.toListRef().size() && value.toListRef().front().isTensorList()) {
    c10::List<c10::List<at::Tensor>> lists;
    for (const c10::IValue& list : value.toListRef()) {
      lists.push_back(seen_by_host(list).toTensorList());
    }
    return lists;
  }
  return value;
}

// Everything else: computed on the host and brought back. As on a GPU, a scalar and an index may be the host's.
void compute_on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.schema().name();
  if (name.rfind("c10d::", 0) == 0) {  // collectives work on the memory itself, and gloo goes on when this returns
    auto arguments = torch::jit::pop(*stack, op.schema().arguments().size());
    for (const auto& value : arguments) {
      stack->push_back(seen_by_host(value));
    }
    Kernel kernel(name);
    op.callBoxed(stack);
    return;
  }
  bool on_host = false, on_device = false;
  auto look_at = [&](const at::Tensor& x) {
    on_host |= x.defined() && x.is_cpu() && x.dim();
    on_device |= x.defined() && x.device().type() == kType;
  };
  for (const auto& value : torch::jit::last(*stack, op.schema().arguments().size())) {
    if (value.isTensor()) {
      look_at(value.toTensor());
    } else if (value.isTensorList()) {
      for (const at::Tensor& x : value.toTensorList()) {
        look_at(x);
      }
    }
  }
  check_same_device(on_host, on_device, name);
  Kernel kernel(name);
  if (name == "aten::nonzero" || name == "aten::masked_select" || name == "aten::repeat_interleave") {
    host_wait(streams.event(current_stream));
  }
  at::native::cpu_fallback(op, stack);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, HPU, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&compute_on_host>());
}

TORCH_LIBRARY_IMPL(aten, HPU, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", local_scalar);
  m.impl("resize_", resize);
  m.impl("record_stream", record_stream);
  m.impl("set_.source_Storage", set_storage);
  m.impl("set_.source_Storage_storage_offset", set_storage_view);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("unfold", at::native::unfold);
  m.impl("view_as_real", at::native::view_as_real);
  m.impl("view_as_complex", at::native::view_as_complex);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}

// `copy_from` resolves these itself: to resolve them before it, torch would copy, without an end
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, Negative, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("copied_to_device", [] { return copied_to_device.load(); });
  m.def("copies", [] { return streams.copies(); });
  m.def("copies_beside_kernels", [] { return streams.copies_beside_kernels(); });
  m.def("host_waits", [] { return host_waits.load(); });
  m.def("memory_allocated", [] { return allocated.load(); });
  m.def("max_memory_allocated", [] { return most_allocated.load(); });
  m.def("synchronize", [] { host_wait(streams.all()); });
  m.def("take_violations", [] { return streams.take_violations(); });
  m.def("reset_peak_memory_stats", [] { most_allocated = allocated.load(); });
}
