# The native engine's own targets, for those who change its kernels.

.PHONY: sanitize aarch64 bench-engine

SANITIZE_DIR := build/sanitize
SANITIZE_FLAGS := -std=c++17 -O1 -g1 -fno-var-tracking -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
KERNEL_FLAGS := -fno-math-errno -fno-trapping-math -ffp-contract=fast
NATIVE := nasopt/training/native
X86 := $(filter x86_64 amd64,$(shell uname -m))
KERNEL_SETS := generic $(if $(X86),avx2) $(shell grep -q avx512vl /proc/cpuinfo 2>/dev/null && echo avx512)
FLAGS_avx2 := -mavx2 -mfma
FLAGS_avx512 := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma

sanitize: $(SANITIZE_DIR)/driver ## Run the native kernels under AddressSanitizer and UBSan
	@$<

$(SANITIZE_DIR)/driver: tests/native_driver.cpp $(NATIVE)/network.cpp $(KERNEL_SETS:%=$(SANITIZE_DIR)/%.o) $(wildcard $(NATIVE)/*.h)
	@$(CXX) $(SANITIZE_FLAGS) $(KERNEL_SETS:%=-DNASOPT_%) -I$(NATIVE) $(filter %.cpp %.o,$^) -o $@

$(SANITIZE_DIR)/%.o: $(NATIVE)/kernels.cpp $(wildcard $(NATIVE)/*.h)
	@mkdir -p $(@D)
	@$(CXX) $(SANITIZE_FLAGS) $(KERNEL_FLAGS) $(FLAGS_$*) -DNASOPT_ISA=$* -c $< -o $@

AARCH64 := build/aarch64/driver

aarch64: $(AARCH64) ## Run the native kernels as built for aarch64, emulated (g++-aarch64-linux-gnu, qemu-user)
	@qemu-aarch64 $<

$(AARCH64): tests/native_driver.cpp $(NATIVE)/network.cpp $(NATIVE)/kernels.cpp $(wildcard $(NATIVE)/*.h)
	@command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null \
	  || { echo "error: needs a cross-compiler and an emulator; on Debian: apt-get install g++-aarch64-linux-gnu qemu-user" >&2; exit 2; }
	@mkdir -p $(@D)
	@aarch64-linux-gnu-g++ -std=c++17 -O2 $(KERNEL_FLAGS) -static -DNASOPT_ISA=generic -I$(NATIVE) $(filter %.cpp,$^) -o $@

bench-engine: setup ## Measure the native engine against PyTorch
	@$(BIN)/python studies/bench_engine.py
