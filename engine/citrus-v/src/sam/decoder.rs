//! The mask decoder of SAM2: prompts and picture look at each other twice, then masks are drawn.

use candle_core::{DType, Module, Result, Tensor};

use crate::config::SamConfig;
use crate::convolutions::ConvUp;
use crate::ops::{LayerNorm, Linear, Mlp, attention, gelu};
use crate::plan::WeightsError;
use crate::sam::Seen;
use crate::weights::Weights;

/// Of LayerNorm between prompts and picture.
const EPS: f64 = 1e-5;

/// Of LayerNorm over channels.
const EPS_CHANNELS: f64 = 1e-6;

/// Heads of all its attention.
const HEADS: usize = 8;

/// What was drawn, object by object.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Logits of four masks, `[objects, 4, S/4, S/4]`: the first is meant for clear prompts, the other
    /// three for such as may mean several things.
    pub masks: Tensor,
    /// How good the network thinks each is, `[objects, 4]`.
    pub ious: Tensor,
    /// Whether there is an object at all, `[objects, 1]`.
    pub objects: Tensor,
}

impl Drawn {
    /// The three masks of several meanings, and their IoU.
    ///
    /// # Errors
    ///
    /// Fails if there are none.
    pub fn several(&self) -> Result<(Tensor, Tensor)> {
        Ok((self.masks.narrow(1, 1, 3)?, self.ious.narrow(1, 1, 3)?))
    }

    /// One mask for each object and its IoU: that for clear prompts, if it is steady, else the best of
    /// the three.
    ///
    /// # Errors
    ///
    /// Fails if there are none.
    pub fn single(&self) -> Result<(Tensor, Tensor)> {
        let clear = self.masks.narrow(1, 0, 1)?;
        let area =
            |at: f64| clear.gt(at)?.to_dtype(DType::F32)?.flatten_from(1)?.sum(1)?.to_vec1::<f32>();
        let (sure, perhaps) = (area(STEADY_MARGIN)?, area(-STEADY_MARGIN)?);
        let (several, which) = self.best()?;
        let mut chosen = (Vec::new(), Vec::new());
        for (object, (sure, perhaps)) in sure.into_iter().zip(perhaps).enumerate() {
            let is_steady = perhaps <= 0.0 || sure / perhaps >= STEADY_SHARE;
            let best = which.get(object).map_or(0, |it| *it as usize + 1);
            let (masks, index) = if is_steady { (&clear, 0) } else { (&several, best) };
            chosen.0.push(masks.narrow(0, object, 1)?);
            chosen.1.push(self.ious.narrow(0, object, 1)?.narrow(1, index, 1)?);
        }
        Ok((Tensor::cat(&chosen.0, 0)?, Tensor::cat(&chosen.1, 0)?))
    }

    /// Of the three the one with the highest IoU, `[objects, 1, S/4, S/4]`, and which it is.
    ///
    /// # Errors
    ///
    /// Fails if there are none.
    pub fn best(&self) -> Result<(Tensor, Vec<u32>)> {
        let (masks, ious) = self.several()?;
        let which: Vec<u32> = ious.argmax(1)?.to_vec1()?;
        let mut best = Vec::new();
        for (object, mask) in which.iter().enumerate() {
            best.push(masks.narrow(0, object, 1)?.narrow(1, *mask as usize, 1)?);
        }
        Ok((Tensor::cat(&best, 0)?, which))
    }
}

/// When the mask for clear prompts counts as steady: how far logits are moved, and how much of its area
/// has to stay.
const STEADY_MARGIN: f64 = 0.05;
const STEADY_SHARE: f32 = 0.98;

struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl Attention {
    fn load(weights: &Weights, name: &str) -> std::result::Result<Self, WeightsError> {
        let linear = |rest: &str| Linear::load(weights, &format!("{name}.{rest}"));
        let (q, k, v) = (linear("q_proj")?, linear("k_proj")?, linear("v_proj")?);
        Ok(Self { q, k, v, out: linear("out_proj")? })
    }

    fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let split = |it: Tensor| {
            let (batch, count, width) = it.dims3()?;
            it.reshape((batch, count, HEADS, width / HEADS))
        };
        let (q, k, v) = (self.q.forward(q)?, self.k.forward(k)?, self.v.forward(v)?);
        self.out.forward(&attention(&split(q)?, &split(k)?, &split(v)?, None)?)
    }
}

struct Layer {
    own: Attention,
    to_image: Attention,
    from_image: Attention,
    mlp: Mlp,
    norms: Vec<LayerNorm>,
}

impl Layer {
    fn load(weights: &Weights, index: usize) -> std::result::Result<Self, WeightsError> {
        let at = |rest: &str| format!("sam.sam_mask_decoder.transformer.layers.{index}.{rest}");
        let norm = |it: usize| LayerNorm::load(weights, &at(&format!("norm{it}")), EPS);
        Ok(Self {
            own: Attention::load(weights, &at("self_attn"))?,
            to_image: Attention::load(weights, &at("cross_attn_token_to_image"))?,
            from_image: Attention::load(weights, &at("cross_attn_image_to_token"))?,
            mlp: Mlp::load(weights, &at("mlp.layers"), 2)?,
            norms: (1..=4).map(norm).collect::<std::result::Result<_, _>>()?,
        })
    }

    fn norm(&self, index: usize, x: &Tensor) -> Result<Tensor> {
        let norm = self.norms.get(index);
        norm.map_or_else(|| Ok(x.clone()), |it| it.forward(x))
    }

    /// `tokens` and `image` after looking at each other; `asked` and `places` say where they are.
    fn forward(
        &self,
        tokens: &Tensor,
        image: &Tensor,
        asked: &Tensor,
        places: &Tensor,
        is_first: bool,
    ) -> Result<(Tensor, Tensor)> {
        let tokens = if is_first {
            self.own.forward(tokens, tokens, tokens)?
        } else {
            let q = (tokens + asked)?;
            (tokens + self.own.forward(&q, &q, tokens)?)?
        };
        let tokens = self.norm(0, &tokens)?;
        let k = image.broadcast_add(places)?;
        let looked = self.to_image.forward(&(&tokens + asked)?, &k, image)?;
        let tokens = self.norm(1, &(tokens + looked)?)?;
        let tokens = self.norm(2, &(&tokens + self.mlp.forward(&tokens)?)?)?;
        let looked = self.from_image.forward(&k, &(&tokens + asked)?, &tokens)?;
        let image = self.norm(3, &(image + looked)?)?;
        Ok((tokens, image))
    }
}

/// The decoder.
pub struct Decoder {
    /// For the object, for IoU, and for the masks.
    tokens: [Tensor; 3],
    layers: Vec<Layer>,
    last: Attention,
    last_norm: LayerNorm,
    fine: [Linear; 2],
    up1: ConvUp,
    up_norm: LayerNorm,
    up2: ConvUp,
    drawers: Vec<Mlp>,
    iou: Mlp,
    object: Mlp,
}

impl Decoder {
    /// The decoder of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is not there.
    pub fn load(weights: &Weights, _: &SamConfig) -> std::result::Result<Self, WeightsError> {
        let at = |rest: &str| format!("sam.sam_mask_decoder.{rest}");
        let table = |it: &str| weights.get(&at(&format!("{it}.weight")));
        let tokens = [table("obj_score_token")?, table("iou_token")?, table("mask_tokens")?];
        let head = |it: &str| Mlp::load(weights, &at(&format!("{it}.layers")), 3);
        let drawer = |it: usize| head(&format!("output_hypernetworks_mlps.{it}"));
        let conv = |it: &str| Linear::load(weights, &at(it));
        Ok(Self {
            tokens,
            layers: (0..2)
                .map(|it| Layer::load(weights, it))
                .collect::<std::result::Result<_, _>>()?,
            last: Attention::load(weights, &at("transformer.final_attn_token_to_image"))?,
            last_norm: LayerNorm::load(weights, &at("transformer.norm_final_attn"), EPS)?,
            fine: [conv("conv_s0")?, conv("conv_s1")?],
            up1: ConvUp::load(weights, &at("output_upscaling.0"))?,
            up_norm: LayerNorm::load(weights, &at("output_upscaling.1"), EPS_CHANNELS)?,
            up2: ConvUp::load(weights, &at("output_upscaling.3"))?,
            drawers: (0..4).map(drawer).collect::<std::result::Result<_, _>>()?,
            iou: head("iou_prediction_head")?,
            object: head("pred_obj_score_head")?,
        })
    }

    /// The finer levels, as narrow as they are needed.
    ///
    /// # Errors
    ///
    /// Fails if they are of another width.
    pub fn fine(&self, levels: [&Tensor; 2]) -> Result<[Tensor; 2]> {
        let [conv0, conv1] = &self.fine;
        let [finest, finer] = levels;
        Ok([conv0.forward(finest)?, conv1.forward(finer)?])
    }

    /// Draws each object into its picture. `places` says where the picture's places are, `sparse` and
    /// `dense` what is asked for.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit.
    pub fn draw(
        &self,
        seen: &Seen,
        places: &Tensor,
        sparse: &Tensor,
        dense: &Tensor,
    ) -> Result<Drawn> {
        let own = Tensor::cat(&self.tokens, 0)?;
        let (objects, (count, hidden)) = (sparse.dim(0)?, own.dims2()?);
        let own = own.unsqueeze(0)?.broadcast_as((objects, count, hidden))?;
        let asked = Tensor::cat(&[&own.contiguous()?, &sparse.to_dtype(own.dtype())?], 1)?;
        let map = seen.embedding.broadcast_add(dense)?;
        let (_, rows, columns, _) = map.dims4()?;
        let mut image = map.flatten(1, 2)?;
        let mut tokens = asked.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            (tokens, image) = layer.forward(&tokens, &image, &asked, places, index == 0)?;
        }
        let k = image.broadcast_add(places)?;
        let looked = self.last.forward(&(&tokens + &asked)?, &k, &image)?;
        let tokens = self.last_norm.forward(&(tokens + looked)?)?;
        let map = image.reshape((objects, rows, columns, hidden))?;
        let token = |it: usize| tokens.narrow(1, it, 1)?.squeeze(1);
        let fine = self.upscaled(&map, &seen.fine)?;
        let (_, height, width, _) = fine.dims4()?;
        let mut pens = Vec::new();
        for (index, drawer) in self.drawers.iter().enumerate() {
            pens.push(drawer.forward(&token(2 + index)?)?.unsqueeze(1)?);
        }
        let pens = Tensor::cat(&pens, 1)?;
        let masks = pens.matmul(&fine.flatten(1, 2)?.transpose(1, 2)?)?;
        Ok(Drawn {
            masks: masks.reshape((objects, pens.dim(1)?, height, width))?,
            ious: candle_nn::ops::sigmoid(&self.iou.forward(&token(1)?)?)?,
            objects: self.object.forward(&token(0)?)?,
        })
    }

    fn upscaled(&self, map: &Tensor, [finest, finer]: &[Tensor; 2]) -> Result<Tensor> {
        let x = (self.up1.forward(map)? + finer)?;
        let x = gelu(&self.up_norm.forward(&x)?)?;
        gelu(&(self.up2.forward(&x)? + finest)?)
    }
}
