// The Python module seclcompress.kernel._native. It does not know torch: tensors arrive as
// addresses, sizes and strides that ops.py and matrix.py in seclcompress/kernel have checked.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <new>

#include "kernel.h"
#include "fft_plan.h"

namespace {

using acdc::Call;
using acdc::Kernel;
using acdc::View;

void* address(unsigned long long value) {
  return reinterpret_cast<void*>(static_cast<uintptr_t>(value));
}

// Reads (address, channels, batch_stride, channel_stride, position_stride, width, row_stride).
bool read_view(PyObject* tuple, View* view) {
  unsigned long long data;
  long long channels, batch, channel, position, width, row;
  if (!PyArg_ParseTuple(tuple, "KLLLLLL", &data, &channels, &batch, &channel, &position, &width,
                        &row)) {
    return false;
  }
  if (data == 0) {  // the tensor's storage was freed; null would otherwise mean the identity
    PyErr_SetString(PyExc_ValueError, "a tensor has no memory");
    return false;
  }
  *view = {address(data), channels, batch, channel, position, width, row};
  return true;
}

// Reads the view of a tensor that the kernel reads: None is the identity, see Call.
bool read_operand(PyObject* object, const Call& call, View* view) {
  if (object != Py_None) return read_view(object, view);
  if (call.batch != 1 || call.positions > call.n) {
    PyErr_SetString(PyExc_ValueError, "an identity of more than one image, or than n positions");
    return false;
  }
  *view = {nullptr, call.positions, 0, 0, 0, call.positions, 0};
  return true;
}

// Reads the arguments with which both calls begin: kernel name or None, type, n, layers, threads,
// batch, positions, a, d.
bool read_call(PyObject* tuple, Call* call, const Kernel** kernel) {
  const char* name;
  int type;
  long long batch, positions;
  unsigned long long a, d;
  if (!PyArg_ParseTuple(tuple, "ziiiiLLKK", &name, &type, &call->n, &call->layers, &call->threads,
                        &batch, &positions, &a, &d)) {
    return false;
  }
  call->type = static_cast<acdc::Type>(type);
  call->batch = batch;
  call->positions = positions;
  call->a = address(a);
  call->d = address(d);
  *kernel = acdc::find_kernel(name);
  if (*kernel == nullptr) {
    PyErr_Format(PyExc_ValueError, "no kernel named '%s' runs on this machine", name);
    return false;
  }
  if (type < 0 || type > 2 || !acdc::fft_plan_exists(call->n) || call->layers < 1) {
    PyErr_SetString(PyExc_ValueError, "type, length or number of layers out of range");
    return false;
  }
  return true;
}

template <class Operands>
PyObject* run(void (*operation)(const Operands&), const Operands& call) {
  bool out_of_memory = false;
  Py_BEGIN_ALLOW_THREADS
  try {
    operation(call);
  } catch (const std::bad_alloc&) {
    out_of_memory = true;
  }
  Py_END_ALLOW_THREADS
  if (out_of_memory) return PyErr_NoMemory();
  Py_RETURN_NONE;
}

PyObject* forward(PyObject*, PyObject* arguments) {
  PyObject *common, *input, *output;
  unsigned long long scale, bias;
  int transposed;
  Call call = {};
  const Kernel* kernel;
  if (!PyArg_ParseTuple(arguments, "OOOKKp", &common, &input, &output, &scale, &bias,
                        &transposed) ||
      !read_call(common, &call, &kernel) || !read_operand(input, call, &call.input) ||
      !read_view(output, &call.output)) {
    return nullptr;
  }
  call.scale = address(scale);
  call.bias = address(bias);
  call.transposed = transposed != 0;
  return run(kernel->forward, call);
}

PyObject* backward(PyObject*, PyObject* arguments) {
  PyObject *common, *input, *output, *input_grad;
  unsigned long long a_grad, d_grad;
  Call call = {};
  const Kernel* kernel;
  if (!PyArg_ParseTuple(arguments, "OOOOKK", &common, &input, &output, &input_grad, &a_grad,
                        &d_grad) ||
      !read_call(common, &call, &kernel) || !read_operand(input, call, &call.input) ||
      !read_operand(output, call, &call.output) ||
      (input_grad != Py_None && !read_view(input_grad, &call.input_grad))) {
    return nullptr;
  }
  call.a_grad = address(a_grad);
  call.d_grad = address(d_grad);
  return run(kernel->backward, call);
}

// Reads (rows, columns) of a kernel, stride, padding or dilation.
bool read_pair(PyObject* tuple, int64_t* pair) {
  long long rows, columns;
  if (!PyArg_ParseTuple(tuple, "LL", &rows, &columns)) return false;
  pair[0] = rows;
  pair[1] = columns;
  return true;
}

const float* floats(unsigned long long value) { return static_cast<const float*>(address(value)); }

PyObject* convolve(PyObject*, PyObject* arguments) {
  const char* name;
  PyObject *kernel_size, *stride, *padding, *dilation;
  long long sizes[7];
  unsigned long long input, filters, filter_bias, matrix, bias, residual, output;
  int relu;
  acdc::ConvolveCall call = {};
  if (!PyArg_ParseTuple(arguments, "zi(LLLL)(LLL)OOOOK(KKKKK)pK", &name, &call.threads, &sizes[0],
                        &sizes[1], &sizes[2], &sizes[3], &sizes[4], &sizes[5], &sizes[6],
                        &kernel_size, &stride, &padding, &dilation, &input, &filters, &filter_bias,
                        &matrix, &bias, &residual, &relu, &output) ||
      !read_pair(kernel_size, call.kernel) || !read_pair(stride, call.stride) ||
      !read_pair(padding, call.padding) || !read_pair(dilation, call.dilation)) {
    return nullptr;
  }
  const Kernel* kernel = acdc::find_kernel(name);
  if (kernel == nullptr) {
    PyErr_Format(PyExc_ValueError, "no kernel named '%s' runs on this machine", name);
    return nullptr;
  }
  call.batch = sizes[0];
  call.rows = sizes[1];
  call.columns = sizes[2];
  call.channels = sizes[3];
  call.out_rows = sizes[4];
  call.out_columns = sizes[5];
  call.out_channels = sizes[6];
  call.input = floats(input);
  call.filters = floats(filters);
  call.filter_bias = floats(filter_bias);
  call.matrix = floats(matrix);
  call.bias = floats(bias);
  call.residual = floats(residual);
  call.relu = relu != 0;
  call.output = static_cast<float*>(address(output));
  return run(kernel->convolve, call);
}

PyObject* supports(PyObject*, PyObject* arguments) {
  long long n;
  if (!PyArg_ParseTuple(arguments, "L", &n)) return nullptr;
  return PyBool_FromLong(acdc::fft_plan_exists(n));
}

PyObject* kernels(PyObject*, PyObject*) {
  PyObject* names = PyList_New(0);
  if (names == nullptr) return nullptr;
  for (const char* name : {"avx512", "avx2", "baseline"}) {
    if (acdc::find_kernel(name) == nullptr) continue;
    PyObject* text = PyUnicode_FromString(name);
    if (text == nullptr || PyList_Append(names, text) != 0) {
      Py_XDECREF(text);
      Py_DECREF(names);
      return nullptr;
    }
    Py_DECREF(text);
  }
  return names;
}

PyMethodDef methods[] = {
    {"forward", forward, METH_VARARGS, "forward(call, input, output, scale, bias, transposed)"},
    {"backward", backward, METH_VARARGS,
     "backward(call, input, output_grad, input_grad, a_grad, d_grad)"},
    {"convolve", convolve, METH_VARARGS,
     "convolve(kernel, threads, input sizes, output sizes, kernel size, stride, padding, dilation, "
     "input, (filters, filter_bias, matrix, bias, residual), relu, output)"},
    {"supports", supports, METH_VARARGS, "Whether there is an FFT plan for a length."},
    {"kernels", kernels, METH_NOARGS, "Instruction sets that run here, the best first."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", nullptr, -1, methods,
                      nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__native() { return PyModule_Create(&module); }
