/* The network as its own file, so that its bytes can be told from those of the program around it. */
#include "network.h"

int infer(const float *image, float *scratch, float *logits);

int infer(const float *image, float *scratch, float *logits)
{
    network_logits(image, scratch, logits);
    return network_argmax(logits);
}
